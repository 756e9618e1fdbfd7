"""Results in Redis: what publishes them, and what subscribes to them.

    RedisOutput -> RetryingClient -> broker -> Dialogue -> subscribe, asubscribe, live page

The broker is the Redis server. ``keys`` spells its keys; ``connection`` says how clients connect,
``trouble`` which errors pass by themselves and how long to wait between two attempts.
"""
