"""Selection of matrices by the notation of targets, such as "attention", "q+v" or "encoder.q,decoder.all"."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.model.parts import (
    CROSS_ATTENTION,
    EXPERTS,
    NAMED,
    SELECTABLE,
    SHARED_EXPERTS,
    SIDES,
    TARGETS,
    Matrix,
    resolve_role,
)


def select_matrices(
    matrices: tuple[Matrix, ...], targets: str, model_type: str, has_decoder: bool
) -> tuple[Matrix, ...]:
    """Return the matrices that `targets` selects; see `ModelShape.select`.

    Args:
        matrices: all matrices of a model.
        targets: which of them.
        model_type: name of the architecture, for the message.
        has_decoder: whether the model is an encoder-decoder.

    Raises:
        ValueError: A word is not a role, or no matrix is selected.
    """
    if "," in targets:
        parts = [select_matrices(matrices, part, model_type, has_decoder) for part in targets.split(",")]
        return tuple(matrix for matrix in matrices if any(matrix in part for part in parts))
    side, dot, named = targets.rpartition(".")
    pool = tuple(matrix for matrix in matrices if (matrix.experts > 0) == (named == EXPERTS))
    if dot:
        pool = tuple(m for m in pool if has_decoder and m.stack == SIDES.get(side))
    if named == CROSS_ATTENTION:
        pool, named = tuple(m for m in pool if m.cross), "attention"
    elif named == SHARED_EXPERTS:
        pool, named = tuple(m for m in pool if m.is_shared), "feed-forward"
    elif named == EXPERTS:
        named = "feed-forward"
    roles = TARGETS.get(named) or tuple(named.split("+"))
    unknown = [role for role in roles if role not in SELECTABLE]
    if unknown:
        raise ValueError(
            f"targets: {targets!r} names {unknown}; write {', '.join((*TARGETS, *NAMED))}, or roles among "
            f"{', '.join(SELECTABLE)} joined by '+'"
        )
    selected = tuple(matrix for matrix in pool if matrix in _with_roles(pool, roles))
    if not selected:
        stacks = "two stacks (prefixes encoder. and decoder.)" if has_decoder else "one stack"
        raise ValueError(
            f"targets: {targets!r} matches no module in {model_type}; it has "
            f"{sorted({matrix.site for matrix in matrices})} and {stacks}{_without_experts(matrices, targets)}"
        )
    return selected


def _without_experts(matrices: Sequence[Matrix], targets: str) -> str:
    """Return the end of a message on targets that name experts in a model that has none."""
    if not targets.endswith(EXPERTS):
        return ""
    has_routed = any(matrix.experts for matrix in matrices)
    return "; its experts are not shared" if has_routed else "; it has no experts that can be adapted"


def _with_roles(pool: Sequence[Matrix], roles: Sequence[str]) -> list[Matrix]:
    """Return the matrices that contain one of the roles, which differ between layers with and without fused ones."""
    found: list[Matrix] = []
    for layer in {layer for matrix in pool for layer in matrix.layers} or {0}:
        here = [matrix for matrix in pool if matrix.is_in(layer)]
        present = {matrix.role for matrix in here}
        resolved = {resolve_role(role, present) for role in roles}
        found.extend(matrix for matrix in here if matrix.role in resolved)
    return found
