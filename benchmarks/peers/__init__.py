"""What the service is measured against, each as its own documentation recommends."""
