package middleware

// CheckNamespace returns the error that New would return for WithNamespace(ns), for whoever takes a namespace from a
// user and makes no Store of it: tools that move data between namespaces.
func CheckNamespace(ns string) error { return checkNamespace(ns) }
