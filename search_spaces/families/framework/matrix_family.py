"""The superclass of families that adapt weight matrices, such as LoRA, OFT and LoHa."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from search_spaces.families.framework.base import BYTES_PER_NUMBER, AdapterCost, Family, Preparation
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.gradient_flow import gradients_in, layer_gradients, layers_apart
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.structured import rank_at, selected_targets, varies_by_layer
from search_spaces.parameters.types import Categorical, TopLayers, Value, adapted_layers

TARGETS = Categorical(name="targets", choices=("q+v", "attention", "feed-forward", "all"), default="all")
"""The matrices that carry the adapter."""
LAYERS = TopLayers(name="layers")
"""The number of adapted layers, counted from the output."""

_INPUT = frozenset({"input"})


class MatrixCost(NamedTuple):
    """The cost of an adapter on one matrix of one layer.

    Args:
        parameters: number of trainable parameters.
        forward: FLOPs per token in the forward pass.
        backward: FLOPs per token in the backward pass, beyond those of the frozen matrix: for the gradients of the
            adapter's weights, and for those of its inputs if the matrix's input needs one.
        step: FLOPs each time that the matrix runs in a training step, forward and backward, independent of the
            number of tokens.
        forward_step: the share of `step` in the forward pass, for families that cannot be merged.
        penalty: FLOPs in each training step on the adapter's own weights: of a penalty term of the loss, or of a
            projection of their gradients. A matrix that runs more than once has them once.
        prepare_token: FLOPs per token of the batches that give the adapter its initial values.
        prepare: FLOPs once, for these initial values.
    """

    parameters: int
    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0
    forward_step: float = 0.0
    penalty: float = 0.0
    prepare_token: float = 0.0
    prepare: float = 0.0


@dataclass(frozen=True)
class LayerCost:
    """The cost of the adapters on all matrices of a layer.

    Args:
        shared: number of parameters that all layers share, counted once.
        sites: sites of the adapters; see `AdapterCost.lowest_sites`.
        first: cost in the lowest adapted layer.
        rest: cost in each adapted layer above it.
        saved: bytes of the saved adapter; see `MatrixFamily.saved_bytes`.
        preparation: the pass that gives the adapters their initial values, without FLOPs.
    """

    shared: int
    sites: frozenset[str]
    first: MatrixCost
    rest: MatrixCost
    saved: tuple[int, int] | None
    preparation: Preparation | None = None


class MatrixFamily(Family):
    """A family with the parameters `targets` and `layers` and the same adapter on each selected matrix.

    A subclass defines the cost on one matrix and the peft configuration, whose common arguments `common_arguments`
    returns. In an encoder-decoder, `layers` counts through both stacks, or through one side if the targets are on one
    side (as in "decoder.q+v").
    """

    mergeable: ClassVar[bool] = True
    default_targets: ClassVar[str] = "all"
    adapts_experts: ClassVar[bool] = False
    """Whether it adapts the matrices of routed experts, which are stacked in parameters and are no modules."""
    saved_copies: ClassVar[float] = 1.0
    """Number of tensors of the matrix's size that the backward pass keeps, because the adapter forms a full update;
    0 if it does not."""
    saved_copies_of_rank: ClassVar[float] = 0.0
    """Additional tensors of the matrix's size per unit of `rank`."""

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    @abstractmethod
    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """Return the cost on one matrix.

        Args:
            config: the family's parameters under local names, after `fit_to_model`.
            matrix: the matrix.
            differentiated: whether the matrix's input needs a gradient in any case.
        """

    def site(self, matrix: Matrix) -> str:
        """Return the site at which the adapter on a matrix first creates a gradient (see `gradient_flow`)."""
        return matrix.site

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        """Return the tensors of an adapted matrix that the backward pass keeps for it: `input`, `output`."""
        return _INPUT

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        """Return how many numbers of its own an adapter keeps for the backward pass: per token, and constant ones.

        Args:
            config: the family's parameters under local names, after `fit_to_model`.
            matrix: the matrix.
        """
        rank = float(config.get("rank", 0)) if isinstance(config.get("rank", 0), int | float) else 0.0
        copies = self.saved_copies + self.saved_copies_of_rank * rank
        return rank, copies * matrix.inputs * matrix.outputs

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> Mapping[str, Value]:
        """Return the configuration with values adjusted to the model; here unchanged."""
        return config

    def shared_parameters(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> int:
        """Return the number of trainable parameters that all matrices share."""
        return 0

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        """Return the bytes of the saved adapter: those shared by all layers, and those of each adapted layer.

        None means that exactly the trainable parameters are saved, in fp32.
        """
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        layers = self.chosen_layers(config, shape)
        if shape.decoder_depth or not shape.is_uniform:
            return self._on_varied_layers(config, shape, layers)
        if not varies_by_layer(config, "rank"):
            return self.on_layers([(self.layer_cost(config, shape), len(layers))], layers[0])
        ranks = Counter(rank_at(config, "rank", layer, shape.depth, shape.width) for layer in layers)
        parts = [(self.layer_cost({**config, "rank": rank}, shape), count) for rank, count in ranks.items()]
        return self.on_layers(parts, layers[0])

    def layer_cost(self, config: Mapping[str, Value], shape: ModelShape) -> LayerCost:
        """Return the cost of the adapters of a layer, in a model whose layers are all alike."""
        config, matrices = self.fit_to_model(config, shape), self.matrices(config, shape)
        sites: frozenset[str] = frozenset([self.site(matrix) for matrix in matrices])
        lowest = layer_gradients(sites, parallel=shape.parallel)
        rest = [self._run_cost(config, matrix, True) for matrix in matrices]
        first = [
            above if lowest.reads(matrix.site) else self._run_cost(config, matrix, False)
            for matrix, above in zip(matrices, rest, strict=True)
        ]
        return LayerCost(
            self.shared_parameters(config, matrices),
            sites,
            _sum(first),
            _sum(rest),
            self.saved_bytes(config, matrices),
            self.preparation(config),
        )

    def on_layers(self, parts: Sequence[tuple[LayerCost, int]], lowest: int) -> AdapterCost:
        """Return the cost of all adapted layers.

        Args:
            parts: the cost of each kind of layer and the number of such layers, that of the lowest layer first.
            lowest: index of the lowest adapted layer.
        """
        start = parts[0][0]
        above = [(part.rest, count - (part is start)) for part, count in parts]
        first, saved = start.first, start.saved
        return AdapterCost(
            parameters=start.shared + first.parameters + sum(n * rest.parameters for rest, n in above),
            lowest_layer=lowest,
            lowest_sites=start.sites,
            forward_flops=first.forward + sum(n * rest.forward for rest, n in above),
            backward_flops=first.backward + sum(n * rest.backward for rest, n in above),
            step_flops=first.step + first.penalty + sum(n * (rest.step + rest.penalty) for rest, n in above),
            adapter_flops=first.penalty + sum(n * rest.penalty for rest, n in above),
            forward_step_flops=first.forward_step + sum(n * rest.forward_step for rest, n in above),
            mergeable=self.mergeable,
            saved_bytes=saved and saved[0] + sum(n * part.saved[1] for part, n in parts if part.saved),
            preparation=_prepared(start.preparation, [(n, part.rest) for part, n in parts]),
        )

    def _on_varied_layers(
        self, config: Mapping[str, Value], shape: ModelShape, layers: tuple[int, ...]
    ) -> AdapterCost:
        """Return the cost where the layers differ in their matrices or in what needs a gradient.

        The latter is so in an encoder-decoder, where the cost of decoder layers depends on the layers below.
        """
        lowest, encoder = layers[0], shape.encoder_depth
        selected = self.matrices(config, shape)
        of_kind: dict[int, tuple[Matrix, ...]] = {}
        for layer in layers:
            kind = shape.layer_kinds[layer]
            if kind not in of_kind:
                here = shape.stack_of(kind)
                of_kind[kind] = tuple([m for m in selected if m.stack == here and m.is_in(kind)])
        sites = {k: frozenset([self.site(m) for m in matrices]) for k, matrices in of_kind.items()}
        chosen = tuple(dict.fromkeys(matrix for matrices in of_kind.values() for matrix in matrices))
        sizes = shape.depth, shape.width, shape.decoder_depth
        varied = varies_by_layer(config, "rank")
        # The lowest layer and the decoder's first have fewer gradients; other layers of a kind are equal.
        alike: dict[tuple[int | None, int, bool], list[int]] = {}
        for layer in layers:
            rank = rank_at(config, "rank", layer, *sizes) if varied else None
            alike.setdefault((rank, shape.layer_kinds[layer], layer in (lowest, encoder)), []).append(layer)
        known: dict[tuple[int | None, int, bool], MatrixCost] = {}
        usual = self.fit_to_model(config, shape)
        saved = self.saved_bytes(usual, chosen)
        total = [(1, MatrixCost(self.shared_parameters(usual, chosen)))]
        stored = saved[0] if saved else 0
        for (rank, kind, _), of_layers in alike.items():
            one = usual if rank is None else self.fit_to_model({**config, "rank": rank}, shape)
            gradients = gradients_in(shape, of_layers[0], lowest, sites[kind])
            costs = []
            for matrix in of_kind[kind]:
                key = rank, id(matrix), gradients.reads(matrix.site)
                if key not in known:
                    cost = self._run_cost(one, matrix, key[2])
                    share = shape.target_shares.of_matrix(matrix)
                    known[key] = cost._replace(forward=share * cost.forward, backward=share * cost.backward)
                costs.append(known[key])
            cost = _sum(costs)
            total.append((len(of_layers), cost))
            own = saved and self.saved_bytes(one, of_kind[kind])
            stored += len(of_layers) * (own[1] if own else BYTES_PER_NUMBER * cost.parameters)
        apart = layers_apart(shape, lowest)
        lowest_sites = sites[shape.layer_kinds[lowest]]
        return AdapterCost(
            parameters=sum([n * cost.parameters for n, cost in total]),
            lowest_layer=lowest,
            lowest_sites=frozenset() if shape.decoder_depth else lowest_sites,
            layer_sites=tuple([(i, sites[shape.layer_kinds[i]]) for i in layers if i in apart])
            if shape.decoder_depth
            else (),
            forward_flops=sum([n * cost.forward for n, cost in total]),
            backward_flops=sum([n * cost.backward for n, cost in total]),
            step_flops=sum([n * (cost.step + cost.penalty) for n, cost in total]),
            adapter_flops=sum([n * cost.penalty for n, cost in total]),
            forward_step_flops=sum([n * cost.forward_step for n, cost in total]),
            mergeable=self.mergeable,
            saved_bytes=stored if saved else None,
            preparation=_prepared(self.preparation(config), total),
        )

    def _run_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """Return the cost on one matrix for tokens and, if it has them, relative positions.

        Positions pass through the adapted matrix once per step, as rows without a gradient, and their products with
        the tokens propagate a gradient to the adapter.
        """
        cost = self.matrix_cost(config, matrix, differentiated)
        if not matrix.positions:
            return cost
        again, rows = self.matrix_cost(config, matrix, False), matrix.positions
        return cost._replace(
            backward=cost.backward + 2.0 * matrix.outputs * rows,
            step=cost.step + again.step + rows * (again.forward + again.backward),
            forward_step=cost.forward_step + again.forward_step + rows * again.forward,
        )

    def chosen_layers(self, config: Mapping[str, Value], shape: ModelShape) -> tuple[int, ...]:
        """Return the indices of the adapted layers, lowest first."""
        return layers_with(self.matrices(config, shape), config, shape)

    def matrices(self, config: Mapping[str, Value], shape: ModelShape) -> tuple[Matrix, ...]:
        """Return the matrices of a layer, of each stack, that carry the adapter."""
        return self.selected(shape, selected_targets(config, "targets", self.default_targets))

    def selected(self, shape: ModelShape, targets: str) -> tuple[Matrix, ...]:
        """Return the matrices that targets select and the family can adapt.

        Raises:
            ValueError: There is none, or the family cannot adapt routed experts.
        """
        found = shape.select(targets)
        if any(matrix.experts for matrix in found) and not self.adapts_experts:
            raise ValueError(f"targets: {targets!r} names routed experts, which {self.name} cannot adapt")
        return found

    def common_arguments(
        self, config: Mapping[str, Value], shape: ModelShape, task: TaskType
    ) -> dict[str, Any]:
        """Return task_type, target_modules and modules_to_save for the constructor of a peft configuration."""
        layers = self.chosen_layers(config, shape)
        return {
            "task_type": peft_task(task),
            "target_modules": shape.targets(layers, self.matrices(config, shape)),
            "modules_to_save": trained_modules(shape),
        }


def layers_with(
    matrices: Sequence[Matrix], config: Mapping[str, Value], shape: ModelShape
) -> tuple[int, ...]:
    """Return the indices of the layers that `layers` chooses for adapters on some matrices, lowest first.

    In an encoder-decoder with targets on one side, these are the top layers of that side, or the layers of a mask or
    range on that side; if there are none, its top layer, so that every configuration is valid. Where layers differ,
    those without one of the matrices are left out (see `ModelShape.with_matrices`).
    """
    layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
    if not shape.decoder_depth:
        return shape.with_matrices(layers, matrices)
    stacks = {matrix.stack for matrix in matrices}
    if len(stacks) == 2:
        return layers
    side = range(shape.encoder_depth) if stacks == {0} else range(shape.encoder_depth, shape.depth)
    if "layers" in config:
        return tuple(side[-int(config["layers"]) :])
    return tuple(layer for layer in layers if layer in side) or (side[-1],)


def _prepared(preparation: Preparation | None, costs: Sequence[tuple[int, MatrixCost]]) -> Preparation | None:
    """Return a preparation with the FLOPs of n times each cost."""
    if preparation is None:
        return None
    return preparation._replace(
        token_flops=sum([n * cost.prepare_token for n, cost in costs]),
        flops=sum([n * cost.prepare for n, cost in costs]),
    )


def _sum(costs: Sequence[MatrixCost]) -> MatrixCost:
    parameters = sum([cost.parameters for cost in costs])
    return MatrixCost(parameters, *(sum(column) for column in list(zip(*costs, strict=True))[1:]))
