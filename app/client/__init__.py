"""The service as its clients see it: what producer.py and test_redis_cache.py are made of."""
