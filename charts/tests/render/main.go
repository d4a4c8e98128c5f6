// Command render is `helm template` and `helm lint --strict` made of Helm's own packages, without
// Helm's Kubernetes client, which neither needs and which takes minutes to compile.
//
//	render template [OPTION]... NAME CHART   prints the manifests, and the notes behind them on demand
//	render lint [OPTION]... CHART            fails on warnings too
package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// list is an option that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

type options struct {
	namespace, kubeVersion string
	files, sets, apis      list
	upgrade, notes         bool
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("template or lint?")
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&o.namespace, "namespace", "default", "the release's namespace")
	flags.StringVar(&o.kubeVersion, "kube-version", "", "the cluster's version; the one this Helm was made for by default")
	flags.Var(&o.files, "values", "a file of values; the last one wins")
	flags.Var(&o.sets, "set", "one value: KEY=VALUE")
	flags.Var(&o.apis, "api-versions", "an API the cluster serves beside Kubernetes's own")
	flags.BoolVar(&o.upgrade, "is-upgrade", false, "render an upgrade")
	flags.BoolVar(&o.notes, "notes", false, "print the notes too (no option of helm)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	values, err := o.values()
	if err != nil {
		return err
	}
	capabilities, err := o.capabilities()
	if err != nil {
		return err
	}
	switch {
	case args[0] == "template" && flags.NArg() == 2:
		return o.template(flags.Arg(0), flags.Arg(1), values, capabilities)
	case args[0] == "lint" && flags.NArg() == 1:
		return lintStrictly(flags.Arg(0), o.namespace, values, capabilities)
	default:
		return fmt.Errorf("template NAME CHART, or lint CHART")
	}
}

func (o *options) values() (map[string]any, error) {
	values := map[string]any{}
	for _, file := range o.files {
		more, err := common.ReadValuesFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		values = loader.MergeMaps(values, more)
	}
	for _, set := range o.sets {
		if err := strvals.ParseInto(set, values); err != nil {
			return nil, fmt.Errorf("--set %s: %w", set, err)
		}
	}
	return values, nil
}

func (o *options) capabilities() (*common.Capabilities, error) {
	capabilities := common.DefaultCapabilities.Copy()
	if o.kubeVersion != "" {
		version, err := common.ParseKubeVersion(o.kubeVersion)
		if err != nil {
			return nil, err
		}
		capabilities.KubeVersion = *version
	}
	capabilities.APIVersions = append(capabilities.APIVersions, o.apis...)
	return capabilities, nil
}

func (o *options) template(name, directory string, values map[string]any, capabilities *common.Capabilities) error {
	loaded, err := loader.Load(directory)
	if err != nil {
		return err
	}
	if needs := loaded.Metadata.KubeVersion; needs != "" && !chartutil.IsCompatibleRange(needs, capabilities.KubeVersion.String()) {
		return fmt.Errorf("chart requires kubeVersion: %s which is incompatible with Kubernetes %s", needs, capabilities.KubeVersion.Version)
	}
	if err := chartutil.ProcessDependencies(loaded, values); err != nil {
		return err
	}
	context := common.ReleaseOptions{
		Name: name, Namespace: o.namespace, Revision: 1, IsInstall: !o.upgrade, IsUpgrade: o.upgrade,
	}
	scope, err := util.ToRenderValues(loaded, values, context, capabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(loaded, scope)
	if err != nil {
		return err
	}
	return o.print(loaded, rendered)
}

// print writes what an install would create in its order, then the hooks.
func (o *options) print(loaded *chart.Chart, rendered map[string]string) error {
	notes := path.Join(loaded.Name(), "templates", "NOTES.txt")
	text := rendered[notes]
	delete(rendered, notes)
	hooks, manifests, err := release.SortManifests(rendered, nil, release.InstallOrder)
	if err != nil {
		return err
	}
	for _, manifest := range manifests {
		fmt.Printf("---\n# Source: %s\n%s\n", manifest.Name, manifest.Content)
	}
	for _, hook := range hooks {
		fmt.Printf("---\n# Source: %s\n%s\n", hook.Path, hook.Manifest)
	}
	if o.notes {
		fmt.Printf("---\n# NOTES\n%s\n", text)
	}
	return nil
}

func lintStrictly(directory, namespace string, values map[string]any, capabilities *common.Capabilities) error {
	if _, err := os.Stat(path.Join(directory, "Chart.yaml")); err != nil {
		return err
	}
	failed := 0
	version := lint.WithKubeVersion(&capabilities.KubeVersion)
	for _, message := range lint.RunAll(directory, values, namespace, version).Messages {
		fmt.Println(message)
		if message.Severity >= support.WarningSev {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d warnings and errors", failed)
	}
	return nil
}
