"""Run plans: in threads (`threaded`) and in a task of an event loop (`tasks`)."""

from nexus_redis._runtime import log_thread

__all__ = ["log_thread"]  # imported so that a thread of its own hands records to handlers, and no caller does
