"""Sets and gets random bytes through django-redis with a serializer that encrypts with Fernet, as django-secure-redis does.

Arguments: the server's address, seconds for each figure, sizes in bytes. Prints one line of JSON for each size."""
import json
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
settings.configure(
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


def rate(operation):
    operation()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        operation()
        count += 1
    return max(count, 1) / (time.perf_counter() - begin)


for size in map(int, sys.argv[3:]):
    value = os.urandom(size)
    result = {"size": size, "set": rate(lambda: cache.set("key", value, 3600))}
    assert cache.get("key") == value
    result["get"] = rate(lambda: cache.get("key"))
    host, port = address.rsplit(":", 1)
    result["stored"] = redis.Redis(host, int(port)).strlen(cache.make_key("key"))
    print(json.dumps(result), flush=True)
