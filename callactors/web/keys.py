"""What the handlers find in the app."""

from aiohttp import web

from callactors.system import CallSystem

SYSTEM = web.AppKey("callactors_system", CallSystem)


def get_system(request: web.Request) -> CallSystem:
    """Return the system that serves *request*, also from within a sub-app."""
    system: CallSystem = request.config_dict[SYSTEM]
    return system
