"""Which executor makes the runs of a study: workers of this machine, nodes of a Ray cluster, jobs of Slurm."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from bakeoff.errors import RecipeError, refuse_unknown
from bakeoff.launch import local
from bakeoff.launch.jobs import Executor
from bakeoff.recipe import Recipe
from bakeoff.results.files import storage_errors

NAMES = ("local", "ray", "slurm")
_LEFT_TO = {"address": ("ray",), "store": ("ray", "slurm"), "slurm": ("slurm",)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the runs of a study are made.

    Args:
        executor: one of `NAMES`.
        jobs: how many at once; on each GPU where there are some. Default: as many as there is room for.
        address: of the Ray cluster; None starts one of this machine.
        store: where nodes find and leave files, a folder that all see or a URL of fsspec; None is a folder of the root.
        slurm: parameters of sbatch.
    """

    executor: str = "local"
    jobs: int | None = None
    address: str | None = None
    store: str | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_unknown("--executor", [self.executor], NAMES)
        for option, executors in _LEFT_TO.items():
            if getattr(self, option) and self.executor not in executors:
                found, expected = f"--{option} with --executor {self.executor}", f"--executor {' or '.join(executors)}"
                raise RecipeError("command line", found=found, expected=expected)

    def side_by_side(self, recipes: Sequence[Recipe], *, root: Path) -> int:
        """Return how many runs of these recipes it would make at once."""
        return self.open(recipes, root=root, log=root).side_by_side

    def open(self, recipes: Sequence[Recipe], *, root: Path, log: Path) -> Executor:
        """Return what makes runs of these recipes.

        Args:
            recipes: what there is to do.
            root: the folder of all runs.
            log: where workers of this machine write what they have to say.

        Raises:
            RecipeError: what it takes is not installed, or not to be reached.
        """
        if self.executor == "local":
            return local.Local(local.places(recipes, jobs=self.jobs), log=log)
        from bakeoff.launch.exchange import Exchange
        from bakeoff.launch.remote import Remote

        store = self.store or str(root.absolute() / ".exchange")
        store = store if "://" in store else str(Path(store).absolute())  # nodes are in other folders
        exchange = Exchange(f"{store}/{_name_of(root)}")
        cpus = max((recipe.threads for recipe in recipes if isinstance(recipe.threads, int)), default=1)
        if self.executor == "slurm":
            from bakeoff.launch.slurm import SlurmNodes

            nodes = SlurmNodes(root.absolute() / ".slurm", cpus=cpus, parameters=self.slurm)
            return Remote(root=root, nodes=nodes, exchange=exchange, at_most=self.jobs)
        from bakeoff.launch import cluster

        cluster.connect(self.address)
        on_gpus = cluster.has_gpus() and any(recipe.device != "cpu" for recipe in recipes)
        of_ray = cluster.RayNodes(cpus, 1 / (self.jobs or 1) if on_gpus else 0.0)
        of_ray.require_room()
        return Remote(root=root, nodes=of_ray, exchange=exchange, at_most=None if on_gpus else self.jobs)


def _name_of(root: Path) -> str:
    """Return what the folder of all runs is called in a store that several may share; made up once, and kept in it."""
    path = root / ".exchange-name"
    with storage_errors(path):
        root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(token_hex(8))
        return path.read_text(encoding="utf-8")


HERE = Placement()
