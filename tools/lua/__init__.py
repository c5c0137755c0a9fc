"""The parts of the bundle tool: the syntax of Lua as a tree, and the passes that change it."""
