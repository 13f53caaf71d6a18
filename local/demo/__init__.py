"""`make demo`: photos, orders and RabbitMQ messages, and what became of each."""
