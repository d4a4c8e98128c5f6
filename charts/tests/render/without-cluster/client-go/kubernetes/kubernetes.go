// Package kubernetes is imported for its module's version only, which tells Helm its Kubernetes's.
package kubernetes
