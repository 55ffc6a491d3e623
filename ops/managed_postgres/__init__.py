"""The provider's own restore points of a managed PostgreSQL: what there is, and whether one can be restored."""
