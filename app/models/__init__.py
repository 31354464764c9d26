"""All tables. Importing the package imports each module in it, so `Base.metadata` is complete for
the migrations, and a new table needs no entry in a list."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
