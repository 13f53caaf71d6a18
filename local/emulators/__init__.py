"""The servers of the laptop stack: AWS, the payment provider and RabbitMQ."""
