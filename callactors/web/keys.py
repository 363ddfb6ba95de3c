"""What the handlers find in the app."""

from aiohttp import web

from callactors.system import CallSystem

SYSTEM = web.AppKey("callactors_system", CallSystem)


def get_calls(request: web.Request) -> CallSystem:
    """Return the system that serves *request*, also from within a sub-app."""
    system = request.app.get(SYSTEM)  # mostly there: the chain of apps is made anew for each request
    if system is None:
        system = request.config_dict[SYSTEM]
    return system
