"""What the bundle is made with: the syntax of Lua as a tree, and what is changed in it."""
