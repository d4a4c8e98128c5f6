// Package scheme knows which API groups a plain cluster serves, and none of their types.
package scheme

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Scheme is what `.Capabilities.APIVersions` is made from; `--api-versions` adds to it.
var Scheme = plainCluster()

// AddToScheme adds no types: `lint` then finds nothing deprecated, which the tests' schemas of the
// newest Kubernetes do instead.
func AddToScheme(*runtime.Scheme) error { return nil }

func plainCluster() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, version := range []schema.GroupVersion{
		{Version: "v1"},
		{Group: "apps", Version: "v1"},
		{Group: "autoscaling", Version: "v2"},
		{Group: "batch", Version: "v1"},
		{Group: "discovery.k8s.io", Version: "v1"},
		{Group: "networking.k8s.io", Version: "v1"},
		{Group: "policy", Version: "v1"},
		{Group: "rbac.authorization.k8s.io", Version: "v1"},
		{Group: "scheduling.k8s.io", Version: "v1"},
		{Group: "storage.k8s.io", Version: "v1"},
	} {
		if err := scheme.SetVersionPriority(version); err != nil {
			panic(err)
		}
	}
	return scheme
}
