"""Redis: keys, Lua scripts, typed records. The only place that knows a key's name."""
