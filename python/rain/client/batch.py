"""Submits: how new tasks and constants become lines of text."""

import base64

from ..common.directory import is_directory_type
from ..common.errors import RainException
from .template import to_json

#: Larger constants, and directories, are uploaded on their own, before the submit.
INLINE_BYTES_MAX = 4096


class Batch:
    """A submit on its way: kept until the server has answered it, so that it can be sent again as it was.

    Attributes:
        nodes: tasks, and (data object, bytes) for constants, in the order of their numbers.
        subworkers: those that the session brings along from now on.
        first: numbers of the first new template, task and object.
        next_template: the number after those of its templates.
        uploads: (SHA-256 in hex, bytes) of constants that are not inside the body.
    """

    __slots__ = ("nodes", "subworkers", "first", "next_template", "uploads", "body", "_new_templates")

    def __init__(self, nodes, subworkers, first):
        self.nodes = nodes
        self.subworkers = subworkers
        self.first = first
        self.next_template = first[0]
        self.uploads = []
        self._new_templates = []
        try:
            self.body = self._text(nodes, subworkers, first)
        except BaseException:
            self.forget_templates()
            raise

    def _text(self, nodes, subworkers, first) -> bytes:
        names = ("first_template", "first_task", "first_object")
        lines = [to_json({"submit": dict(zip(names, first))})]
        add = lines.append
        for node in nodes:
            if type(node) is tuple:
                add(self._constant_line(*node))
                continue
            template_id = None
            if not node._attributes and node._policy is None:
                template_id = node._template.ids.get(node._keep_mask)
            if template_id is None:
                template_id = self._template_id(node, lines)
            if node._name is None:
                add(f"[{template_id},{node._row}]")
            else:
                add(f'[{template_id},{node._row},{{"name":{to_json(node._name)}}}]')
        for subworker in subworkers:
            add(subworker._declaration())
        return ("\n".join(lines) + "\n").encode()

    def _template_id(self, task, lines) -> int:
        """The number of the template with what tasks of their own have: kept outputs, attributes, retries."""
        own = {"attributes": task._attributes} if task._attributes else {}
        if task._policy is not None:
            own.update(sorted(task._policy.items()))
        try:
            fields = to_json(own)[1:-1]
        except RainException as error:
            raise RainException(f"the attributes of {task!r}: {error}") from None
        key = (task._keep_mask, fields) if fields else task._keep_mask
        template_id = task._template.ids.get(key)
        if template_id is None:
            self._new_templates.append((task._template, key))
            lines.append(task._template.line(task._keep_mask, fields))
            template_id = task._template.ids[key] = self.next_template
            self.next_template += 1
        return template_id

    def _constant_line(self, obj, data) -> str:
        fields = {"label": obj.label or ""}
        if obj._content_type:
            fields["content_type"] = obj._content_type
        if obj._is_kept:
            fields["keep"] = True
        if obj._attributes:
            fields["attributes"] = obj._attributes
        is_directory = is_directory_type(obj._content_type)
        if is_directory:
            fields["directory"] = True
        if len(data) <= INLINE_BYTES_MAX and not is_directory:
            fields["data64"] = base64.b64encode(data).decode()
        else:
            import hashlib

            fields["blob"] = hashlib.sha256(data).hexdigest()
            self.uploads.append((fields["blob"], data))
        try:
            return to_json({"object": fields})
        except RainException as error:
            raise RainException(f"the attributes of {obj!r}: {error}") from None

    def forget_templates(self):
        """The server does not have the batch: its templates have no numbers."""
        for template, key in self._new_templates:
            template.ids.pop(key, None)
