"""What an artefact may bring as source code: the arithmetic that ``models.printing`` and ``solver.unrolled`` print.

A file that somebody sends is compiled and run, so it is read first: it may hold functions of assignments, loops and
branches over numbers and arrays, which call nothing but each other and elementary functions. That keeps Python code
out; indices are not checked, so an artefact remains a program, to be taken from whom one trusts.
"""

from __future__ import annotations

import ast

_PREAMBLE = {"import math", "from numba import njit"}
_DECORATOR = "njit(cache=True, fastmath=FASTMATH, error_model='numpy')"
_STATEMENTS = (ast.Assign, ast.AugAssign, ast.For, ast.If, ast.Return, ast.Expr)
_EXPRESSIONS = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Constant,
    ast.Name,
    ast.Subscript,
    ast.Slice,
    ast.Tuple,
    ast.Call,
    ast.Attribute,
)
_SYNTAX = (ast.operator, ast.unaryop, ast.cmpop, ast.expr_context)
_FUNCTIONS = {"range"}


def check_printed(source: str) -> None:
    """Accept what the printers can have printed.

    Raises:
        ValueError: for anything else.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"its model is no source code ({error})") from error
    known = _FUNCTIONS | {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            _check_function(node, known)
        elif not _is_preamble(node):
            raise _refusal(node)


def _is_preamble(node: ast.stmt) -> bool:
    """Docstring, the two imports, and names for constants."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.Assign):
        return ast.unparse(node) in _PREAMBLE
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "set" and len(value.args) == 1:
        value = value.args[0]
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return all(isinstance(name, ast.Name | ast.Tuple) for name in node.targets)


def _check_function(function: ast.FunctionDef, known: set[str]) -> None:
    decorators = [ast.unparse(node) for node in function.decorator_list]
    plain = all(isinstance(node, ast.arguments | ast.arg) for node in ast.walk(function.args))
    if decorators != [_DECORATOR] or not plain or function.returns:
        raise _refusal(function)
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.stmt):
                allowed = isinstance(node, _STATEMENTS)
            elif isinstance(node, ast.Attribute):
                allowed = isinstance(node.value, ast.Name) and node.value.id == "math"
            elif isinstance(node, ast.Call):
                named = isinstance(node.func, ast.Name) and node.func.id in known
                allowed = (named or isinstance(node.func, ast.Attribute)) and not node.keywords
            else:
                allowed = isinstance(node, _EXPRESSIONS + _SYNTAX)
            if not allowed:
                raise _refusal(node)


def _refusal(node: ast.AST) -> ValueError:
    text = " ".join(ast.unparse(node).split())
    return ValueError(f"its model's source has what no printer prints: {text[:60]!r}")
