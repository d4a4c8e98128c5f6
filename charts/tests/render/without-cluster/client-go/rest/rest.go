// Package rest names what Helm's engine takes to reach a cluster. There is none here.
package rest

// Config would say where the cluster is.
type Config struct{}
