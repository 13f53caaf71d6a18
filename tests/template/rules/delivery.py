"""Delivery: who sees the renditions, and how CloudFront serves them."""

from __future__ import annotations

from functions.process_image.formats import OUTPUT_FORMATS
from tests.template.template import Findings, Template, target

_OUR_DISTRIBUTION = {"Fn::Sub": "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}"}
_STABLE = ("/i/*", "locator")  # the pattern of stable addresses, and what answers them


def renditions_and_function_urls_are_for_our_distribution_alone(template: Template) -> Findings:
    """By its identity, not by a network.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-lambda.html
    """
    allowed = [s for s in template.statements_on("RenditionsBucket") if s["Effect"] == "Allow"]
    ours = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": "s3:GetObject",
        "Condition": {"ArnEquals": {"aws:SourceArn": _OUR_DISTRIBUTION}},
    }
    if [{key: value for key, value in s.items() if key != "Resource"} for s in allowed] != [ours]:
        yield "RenditionsBucket is not open to exactly our distribution"
    for name, values in template.functions.items():
        if "FunctionUrlConfig" not in values:
            continue
        permissions = [v for v in template.permissions.values() if target(v["FunctionName"]) == name]
        if any(permission.get("SourceArn") != _OUR_DISTRIBUTION for permission in permissions):
            yield f"{name} may be called by more than our distribution"
        if {permission["Action"] for permission in permissions} != {
            "lambda:InvokeFunctionUrl",
            "lambda:InvokeFunction",
        }:
            yield f"{name} may not be called by its URL"


def distributions_serve_files_over_https_and_no_more(template: Template) -> Findings:
    """The first pattern that fits decides: a rendition in a folder `i` is no stable address.

    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/using-https-viewers-to-cloudfront.html
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/DownloadDistValuesCacheBehavior.html
    """
    wanted = {
        "ViewerProtocolPolicy": "https-only",
        "AllowedMethods": ["GET", "HEAD"],
        "Compress": False,
        "ResponseHeadersPolicyId": {"Ref": "SecurityHeaders"},
    }
    for name, values in template.distributions.items():
        config = values["DistributionConfig"]
        tried = []
        for behavior in [*config["CacheBehaviors"], config["DefaultCacheBehavior"]]:
            pattern = behavior.get("PathPattern", "*")
            tried.append((pattern, behavior["TargetOriginId"]))
            for key, value in wanted.items():
                if behavior.get(key) != value:
                    yield f"{name} has another {key} at {pattern}"
        before = tried[: tried.index(_STABLE)] if _STABLE in tried else []
        for extension in (image_format.extension for image_format in OUTPUT_FORMATS.values()):
            if (f"/i/*.{extension}", "renditions") not in before:
                yield f"a rendition in {extension} under i/ is taken for a stable address"
