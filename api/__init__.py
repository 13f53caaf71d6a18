"""The API of queues over HTTP, as OpenAPI describes it, and its page."""
