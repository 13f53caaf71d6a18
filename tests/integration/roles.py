"""Change the permissions of the deployed functions and the API for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from local.stack import Stack


def role_name(stack: Stack, role: str) -> str:
    """What IAM calls a role of the template."""
    (resource,) = stack.cloudformation.describe_stack_resources(StackName=stack.stack_name, LogicalResourceId=role)[
        "StackResources"
    ]
    return resource["PhysicalResourceId"]


@contextmanager
def not_allowed(stack: Stack, role: str, action: str) -> Iterator[None]:
    """Deny a role an action inside the block."""
    iam, name, policy_name = stack.client("iam"), role_name(stack, role), f"denied-{uuid4().hex}"
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=name, PolicyName=policy_name, PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
