"""JSON Schemas (draft 4, which API Gateway knows) of the messages that go in and out."""
