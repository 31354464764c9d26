"""The service as its clients see it. producer.py and test_redis_cache.py are built from it."""
