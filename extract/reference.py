"""Vectors that new ones will stand beside, and therefore have to agree with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..features.canary import require_agreement
from ..features.provenance import require_same_fields

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ..features.provenance import Provenance
    from ..features.units import Origin


@dataclasses.dataclass(frozen=True)
class Reference:
    """Vectors that were computed before, here or elsewhere.

    Attributes
    ----------
    provenance : Provenance
        How they were made.
    canary : ndarray of shape (C, D)
        Vectors of the test images that came with them.
    name : str
        Whose they are, for messages.
    remedy : str
        What the user can do if new vectors do not agree, for messages.
    engine : str, default=""
        What computed them, if that is known.
    """

    provenance: Provenance
    canary: NDArray[np.floating]
    name: str
    remedy: str
    engine: str = ""

    @classmethod
    def to(cls, origin: Origin | None, out: Path, remedy: str) -> Reference | None:
        """The vectors that an output holds already; None if it holds none."""
        if origin is None:
            return None
        engine = str(origin.environment.get("engine", ""))
        return cls(origin.provenance, origin.canary, str(out), remedy, engine)

    def require_declared(self, declared: dict[str, object]) -> None:
        """Refuse, before a backbone is loaded, what is known already to differ.

        Parameters
        ----------
        declared : dict of str to Any
            Fields of a provenance; see `Request.declared`.

        Raises
        ------
        ProvenanceMismatch
            Naming the fields that differ.
        """
        require_same_fields(
            declared,
            dataclasses.asdict(self.provenance),
            this="this run",
            that=self.name,
            remedy=self.remedy,
        )

    def require(self, provenance: Provenance, canary: NDArray[np.floating]) -> None:
        """Refuse to go on beside these if new vectors are made or come out differently.

        Raises
        ------
        ProvenanceMismatch
            Naming the fields that differ, or by how much the canaries disagree.
        """
        self.require_declared(dataclasses.asdict(provenance))
        remedy = self.remedy
        if self.engine and self.provenance.precision != "f32":
            remedy += (
                f" Engines round differently in {self.provenance.precision}: try --engine "
                f"{self.engine}, which computed the others."
            )
        require_agreement(
            canary,
            self.canary,
            self.provenance.precision,
            this="this machine",
            that=f"the one that made {self.name}",
            remedy=remedy,
        )
