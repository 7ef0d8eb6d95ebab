"""A list whose items may have labels."""

from collections.abc import MutableSequence


class LabeledList(MutableSequence):
    """A list with an optional label on each item; a label occurs once.

    Items are found by position, slice or label: `outputs[0]`, `outputs[1:]`, `outputs["stdout"]`.
    `in` asks for a label. Two lists are equal when their items and labels are.

    Args:
        items: the values.
        labels: as many labels; None for an item without one.
        pairs: instead of both, (label, value) pairs.
    """

    __slots__ = ("_items", "_labels", "_positions")

    def __init__(self, items=None, labels=None, pairs=None):
        if pairs is not None:
            if items is not None or labels is not None:
                raise ValueError("give either pairs, or items and labels")
            pairs = list(pairs)
            labels = [label for label, _ in pairs]
            items = [value for _, value in pairs]
        self._items = list(items) if items is not None else []
        self._labels = list(labels) if labels is not None else [None] * len(self._items)
        if len(self._labels) != len(self._items):
            raise ValueError(f"{len(self._items)} items but {len(self._labels)} labels")
        self._positions = {}
        for i, label in enumerate(self._labels):
            self._check_label(label)
            if label is not None:
                self._positions[label] = i

    def _check_label(self, label, replaces=None):
        """Raises unless `label` is free; `replaces` is the position that may hold it already."""
        if label is None:
            return
        if isinstance(label, (int, slice)):
            raise TypeError(f"a label can't be a number or slice: {label!r}")
        if self._positions.get(label, replaces) != replaces:
            raise KeyError(f"label {label!r} is used already")

    def _index(self, key) -> int:
        if isinstance(key, int):
            if not -len(self._items) <= key < len(self._items):
                raise IndexError(f"index {key} is out of range for {len(self._items)} items")
            return key + len(self._items) if key < 0 else key
        if key is None or key not in self._positions:
            raise KeyError(f"there is no {key!r}: there are {', '.join(map(repr, self._positions)) or 'no labels'}")
        return self._positions[key]

    def _number_labels(self):
        self._positions = {label: i for i, label in enumerate(self._labels) if label is not None}

    def __len__(self):
        return len(self._items)

    def __iter__(self):
        return iter(self._items)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return LabeledList(self._items[key], self._labels[key])
        return self._items[self._index(key)]

    def __setitem__(self, key, value):
        if isinstance(key, slice):
            raise TypeError("a slice can't be assigned")
        self._items[self._index(key)] = value

    def __delitem__(self, key):
        if isinstance(key, slice):
            del self._items[key]
            del self._labels[key]
        else:
            i = self._index(key)
            del self._items[i]
            del self._labels[i]
        self._number_labels()

    def __contains__(self, label):
        return label in self._positions

    def __eq__(self, other):
        if not isinstance(other, LabeledList):
            return NotImplemented
        return self._items == other._items and self._labels == other._labels

    __hash__ = None

    def __repr__(self):
        parts = (f"{v!r}" if k is None else f"{k}={v!r}" for k, v in zip(self._labels, self._items))
        return f"LabeledList([{', '.join(parts)}])"

    @property
    def labels(self) -> list:
        return list(self._labels)

    def items(self):
        """(label, value) pairs in order."""
        return zip(self._labels, self._items)

    def get_label(self, key):
        return self._labels[self._index(key)]

    def set_label(self, key, label):
        i = self._index(key)
        self._check_label(label, replaces=i)
        self._labels[i] = label
        self._number_labels()

    def set(self, key, value, label=None):
        """Replaces an item and its label. An unknown label as key appends the item."""
        if not isinstance(key, int) and key not in self._positions:
            if label is not None and label != key:
                raise KeyError(f"no item has the label {key!r}")
            self.append(value, key)
            return
        i = self._index(key)
        if label is None and not isinstance(key, int):
            label = key
        self._check_label(label, replaces=i)
        self._items[i] = value
        self._labels[i] = label
        self._number_labels()

    def append(self, value, label=None):
        self._check_label(label)
        if label is not None:
            self._positions[label] = len(self._items)
        self._items.append(value)
        self._labels.append(label)

    def insert(self, index, value, label=None):
        self._check_label(label)
        self._items.insert(index, value)
        self._labels.insert(index, label)
        self._number_labels()

    def pop(self, key=-1):
        i = self._index(key)
        value = self._items[i]
        del self[i]
        return value
