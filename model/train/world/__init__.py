"""A synthetic world of chores: folders, requests, tool calls really run, answers checked. See skills/__init__.py."""
