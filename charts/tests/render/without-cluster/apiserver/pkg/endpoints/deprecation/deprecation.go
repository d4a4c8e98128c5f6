// Package deprecation would know which API versions are on their way out.
package deprecation

import "k8s.io/apimachinery/pkg/runtime"

// IsDeprecated is never asked: no types are registered.
func IsDeprecated(runtime.Object, int, int) bool { return false }

// WarningMessage is never asked either.
func WarningMessage(runtime.Object) string { return "" }
