"""`make demo`: send photos, orders and RabbitMQ messages, and report each outcome."""
