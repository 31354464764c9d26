from rich.console import Console

console = Console(markup=False, highlight=False)
