"""The first part of a dot product in one fixed order of additions, as vector instructions.

Written in the compiler's own language because numba vectorises a sum only where it may choose the
order itself (fastmath), and then the bits depend on the machine and on the loop around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.core.cgutils
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

Code = Any  # numba and llvmlite have no types for types and values of the code they write
cgutils: Code = numba.core.cgutils
LANES = 16  # measured: 8 lanes wait for additions, 32 spill registers where vectors hold 4 doubles


def _write_lanes_dot(
    typing: Code, left: Code, i: Code, right: Code, j: Code, blocks: Code
) -> tuple[Code, Callable[..., Code]]:
    """Type and write the dot product of row i of ``left`` and row j of ``right``, C-contiguous.

    Over the first ``blocks * LANES`` columns only: lane by lane, then the lanes as a fixed tree.
    """

    def generate(context: Code, builder: Code, signature: Code, arguments: Code) -> Code:
        left_type, _, right_type, _, _ = signature.args
        double = ir.DoubleType()
        vector = ir.VectorType(double, LANES)

        def first(array_type: Code, value: Code, row: Code) -> Code:
            array = context.make_array(array_type)(context, builder, value)
            columns = cgutils.unpack_tuple(builder, array.shape)[1]
            return builder.gep(array.data, [builder.mul(row, columns)])

        def load(pointer: Code, array_type: Code, offset: Code) -> Code:
            element = context.get_data_type(array_type.dtype)
            place = builder.bitcast(
                builder.gep(pointer, [offset]), ir.VectorType(element, LANES).as_pointer()
            )
            loaded = builder.load(place, align=array_type.dtype.bitwidth // 8)
            return loaded if element == double else builder.fpext(loaded, vector)

        a = first(left_type, arguments[0], arguments[1])
        b = first(right_type, arguments[2], arguments[3])
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES))
        with cgutils.for_range(builder, arguments[4]) as loop:
            offset = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            product = builder.fmul(load(a, left_type, offset), load(b, right_type, offset))
            builder.store(builder.fadd(builder.load(total), product), total)
        lanes = builder.load(total)
        index = ir.IntType(32)
        parts = [builder.extract_element(lanes, ir.Constant(index, k)) for k in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[k], parts[k + half]) for k in range(half)]
        return parts[0]

    return types.float64(left, types.intp, right, types.intp, types.intp), generate


lanes_dot: Code = intrinsic(_write_lanes_dot)
