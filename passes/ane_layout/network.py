"""A minimum cut between two sides, most of it found by looking at one node at a time.

A node that pays no more for standing on a side than all else it could save is on that side in some
minimum cut: it is merged with the side, and its neighbours are looked at again. What is left when
nothing moves any more, a small part in practice, goes to networkx. Time is linear in the edges but
for that rest.
"""

from __future__ import annotations

from collections import deque

NEAR, FAR = "near", "far"


class Network:
    """Nodes to divide between a near and a far side, with a price for each divided pair."""

    def __init__(self) -> None:
        self.out: dict[object, dict[object, int]] = {NEAR: {}, FAR: {}}
        self.into: dict[object, dict[object, int]] = {NEAR: {}, FAR: {}}
        self.total = 1
        self.forbidden: list[tuple[object, object]] = []

    def pay(self, near: object, far: object, price: int) -> None:
        """Charge ``price`` when ``near`` is on the near side and ``far`` on the far side."""
        if price > 0 and near != far:
            self.total += price
            self._add(near, far, price)

    def forbid(self, near: object, far: object) -> None:
        """Never let ``near`` be on the near side while ``far`` is on the far side."""
        self.forbidden.append((near, far))

    def _add(self, near: object, far: object, price: int) -> None:
        for node in (near, far):
            self.out.setdefault(node, {})
            self.into.setdefault(node, {})
        self.out[near][far] = self.out[near].get(far, 0) + price
        self.into[far][near] = self.into[far].get(near, 0) + price

    def far_side(self) -> set[object]:
        """The nodes on the far side of a minimum cut; where sides cost the same, on the near one."""
        for near, far in self.forbidden:
            self._add(near, far, self.total)
        self.forbidden.clear()
        side: dict[object, str] = {}
        waiting = deque(node for node in self.out if node not in (NEAR, FAR))
        queued = set(waiting)
        while waiting:
            node = waiting.popleft()
            queued.discard(node)
            if node in side:
                continue
            found = self._side_of(node)
            if found is not None:
                side[node] = found
                for other in self._merge(node, found):
                    if other not in queued and other not in side:
                        queued.add(other)
                        waiting.append(other)
        far = {node for node, where in side.items() if where == FAR}
        if len(self.out) > 2:
            far |= self._rest()
        return far

    def _side_of(self, node: object) -> str | None:
        out, into = self.out[node], self.into[node]
        if into.get(NEAR, 0) >= sum(out.values()):
            return NEAR
        return FAR if out.get(FAR, 0) > sum(into.values()) else None

    def _merge(self, node: object, side: str) -> list[object]:
        """Let ``side`` stand for ``node``; returns the nodes beside it."""
        out, into = self.out.pop(node), self.into.pop(node)
        for other, price in out.items():
            del self.into[other][node]
            if side == NEAR and other not in (NEAR, FAR):
                self._add(NEAR, other, price)
        for other, price in into.items():
            del self.out[other][node]
            if side == FAR and other not in (NEAR, FAR):
                self._add(other, FAR, price)
        return [other for other in {**out, **into} if other not in (NEAR, FAR)]

    def _rest(self) -> set[object]:
        import networkx as nx  # takes a moment to load

        graph = nx.DiGraph()
        graph.add_nodes_from((NEAR, FAR))
        for near, others in self.out.items():
            for far, price in others.items():
                graph.add_edge(near, far, capacity=price)
        # The fastest of networkx's on these graphs, which are long and thin.
        flow = nx.algorithms.flow.shortest_augmenting_path
        _, (_, far_side) = nx.minimum_cut(graph, NEAR, FAR, flow_func=flow)
        return {node for node in far_side if node != FAR}
