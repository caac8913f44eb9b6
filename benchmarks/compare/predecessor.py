"""Sets and gets random bytes through django-redis with a serializer that encrypts with Fernet, as django-secure-redis does, and
enqueues jobs with django-rq whose arguments are encrypted in the same way.

Arguments: the server's address, seconds for each figure. Each line of the standard input is a question and a size in bytes. The
answers to set, get and enqueue are operations per second, those to stored and job are bytes in Redis. Without django-rq, job is
0."""
import os
import pickle
import sys
import time

from cryptography.fernet import Fernet
from django.conf import settings
from django_redis.serializers.base import BaseSerializer

FERNET = Fernet(Fernet.generate_key())


class SecureSerializer(BaseSerializer):
    def dumps(self, value):
        return FERNET.encrypt(pickle.dumps(value, -1))

    def loads(self, value):
        return pickle.loads(FERNET.decrypt(value))


sys.modules["secure_serializer"] = sys.modules["__main__"]
address, seconds = sys.argv[1], float(sys.argv[2])
host, port = address.rsplit(":", 1)
settings.configure(
    RQ_QUEUES={"default": {"HOST": host, "PORT": int(port), "DB": 1}},
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{address}/0",
            "OPTIONS": {"SERIALIZER": "secure_serializer.SecureSerializer"},
        }
    }
)

import redis  # noqa: E402
from django.core.cache import cache  # noqa: E402

try:
    import django_rq
except ImportError:
    django_rq = None


def rate(operation):
    operation()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        operation()
        count += 1
    return max(count, 1) / (time.perf_counter() - begin)


def enqueue(value):
    return django_rq.get_queue("default").enqueue("secure_serializer.work", FERNET.encrypt(pickle.dumps(((value,), {}), -1)))


def answer(question, value):
    if question == "set":
        return rate(lambda: cache.set("key", value, 3600))
    cache.set("key", value, 3600)
    if question == "get":
        assert cache.get("key") == value
        return rate(lambda: cache.get("key"))
    if question == "stored":
        return redis.Redis(host, int(port)).strlen(cache.make_key("key"))
    if not django_rq:
        return 0
    jobs = redis.Redis(host, int(port), db=1)
    number = rate(lambda: enqueue(value)) if question == "enqueue" else jobs.memory_usage(enqueue(value).key, samples=0)
    jobs.flushdb()
    return number


for line in sys.stdin:
    question, size = line.split()
    print(answer(question, os.urandom(int(size))), flush=True)
