"""The REST API: one module a product family, each handler named by the operation id of the API description."""
