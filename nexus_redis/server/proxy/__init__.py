"""The proxy, `nexus-redis serve --upstream URL --budget NAME`: it paces any program that speaks HTTP, unchanged.

    client --request--> Proxy --waits for its tokens--> upstream
           <-response--       <--status, latency-------        the laws make the budget's rate of these

docs/how-to/proxy.md describes what a client and an operator see.
"""

from nexus_redis.server.proxy.application import Proxy
from nexus_redis.server.proxy.options import ProxyOptions
from nexus_redis.server.proxy.process import ProxyApplication

__all__ = ["Proxy", "ProxyApplication", "ProxyOptions"]
