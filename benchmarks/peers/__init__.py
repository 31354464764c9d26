"""What the service is measured against, each written as its own documentation recommends."""
