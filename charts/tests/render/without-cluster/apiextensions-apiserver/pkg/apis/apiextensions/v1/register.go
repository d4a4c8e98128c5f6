// Package v1 would register the types of custom resource definitions.
package v1

import "k8s.io/apimachinery/pkg/runtime"

// AddToScheme adds nothing: the chart has no definitions.
func AddToScheme(*runtime.Scheme) error { return nil }
