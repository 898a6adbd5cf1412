"""Named tuples of arrays by reference, for numba kernels that call each other.

numba passes each array of a named tuple as seven numbers: with forty arrays, most of the time to
compile a kernel goes into passing them on. A reference is one pointer; fields are read through it
as before. What it points to is a copy of the tuple on the stack of the kernel that made it: it must
not be returned, and the arrays live as long as the caller's tuple holds them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model


class Reference(types.Type):
    """The numba type of a reference to a named tuple."""

    def __init__(self, content: Any) -> None:
        self.content = content
        super().__init__(name=f"Reference({content})")


@register_model(Reference)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, manager[kind.content].get_value_type().as_pointer())


@intrinsic
def by_reference(_typing: Any, content: Any) -> Any:
    """Refer to a named tuple, for the calls of this kernel."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return cgutils.alloca_once_value(builder, arguments[0])

    return Reference(content)(content), generate


@infer_getattr
class _Fields(AttributeTemplate):  # type: ignore[misc]
    key = Reference

    def generic_resolve(self, reference: Any, name: str) -> Any:
        fields = reference.content.fields
        return reference.content[fields.index(name)] if name in fields else None


@lower_getattr_generic(Reference)
def _read_field(_context: Any, builder: Any, reference: Any, value: Any, name: str) -> Any:
    """Generate the reading of a field: never written, and not counted as a use of its memory."""
    place = reference.content.fields.index(name)
    field = builder.load(cgutils.gep_inbounds(builder, value, 0, place))
    field.set_metadata("invariant.load", builder.module.add_metadata([]))
    if isinstance(reference.content[place], types.Array):
        owner = ir.Constant(field.type.elements[0], None)
        field = builder.insert_value(field, owner, 0)
    return field
