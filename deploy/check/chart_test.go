package check

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

const chartDir = root + "/deploy/helm/posthaste"

// valuesOf reads a values file of the chart, with changes.
func valuesOf(t *testing.T, name string, changed ...string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "ci", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, more := range append([]string{string(text)}, changed...) {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(more), &v); err != nil {
			t.Fatal(err)
		}
		maps.Copy(values, v)
	}
	return values
}

// render renders the chart as helm install does, and checks the values by its schema.
func render(values map[string]any) (map[string]string, error) {
	chart, err := loader.Load(chartDir)
	if err != nil {
		return nil, err
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "hooks", Namespace: "payments", IsInstall: true}, caps)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// kinds are the objects that the chart contains, by kind.
var kinds = map[string]func() metav1.Object{
	"v1 ServiceAccount":                       func() metav1.Object { return &corev1.ServiceAccount{} },
	"v1 Service":                              func() metav1.Object { return &corev1.Service{} },
	"v1 Pod":                                  func() metav1.Object { return &corev1.Pod{} },
	"apps/v1 Deployment":                      func() metav1.Object { return &appsv1.Deployment{} },
	"apps/v1 StatefulSet":                     func() metav1.Object { return &appsv1.StatefulSet{} },
	"policy/v1 PodDisruptionBudget":           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1 Ingress":            func() metav1.Object { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() metav1.Object { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() metav1.Object { return &monitoring.PrometheusRule{} },
}

// objects renders the chart and decodes all objects strictly: an unknown field is an error.
func objects(t *testing.T, values map[string]any) (out []metav1.Object) {
	t.Helper()
	files, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for _, doc := range strings.Split(text, "\n---\n") {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			empty, known := kinds[kind.APIVersion+" "+kind.Kind]
			if !known {
				t.Errorf("%s makes %s %s, which this test does not know", name, kind.APIVersion, kind.Kind)
				continue
			}
			o := empty()
			if err := yaml.UnmarshalStrict([]byte(doc), o, yaml.DisallowUnknownFields); err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
			}
			out = append(out, o)
		}
	}
	return out
}

// one returns the only object of a kind.
func one[T metav1.Object](t *testing.T, all []metav1.Object) (out T) {
	t.Helper()
	n := 0
	for _, o := range all {
		if x, is := o.(T); is {
			out = x
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d objects of %T", n, out)
	}
	return out
}

func pod(t *testing.T, all []metav1.Object) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
	t.Helper()
	for _, o := range all {
		switch w := o.(type) {
		case *appsv1.Deployment:
			return &w.Spec.Template, w.Spec.Selector
		case *appsv1.StatefulSet:
			return &w.Spec.Template, w.Spec.Selector
		}
	}
	t.Fatal("there are no pods")
	return nil, nil
}

var examples = []string{"sqlite", "postgres", "all"}

func TestChart_lints(t *testing.T) {
	for _, name := range examples {
		found := lint.AllWithKubeVersion(chartDir, valuesOf(t, name), "payments", &chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"})
		for _, m := range found.Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// All objects are valid in Kubernetes and refer to each other correctly.
func TestChart_objects(t *testing.T) {
	want := map[string]int{"sqlite": 4, "postgres": 5, "all": 10}
	for _, name := range examples {
		all := objects(t, valuesOf(t, name))
		if len(all) != want[name] {
			t.Errorf("%s: %d objects, want %d", name, len(all), want[name])
		}
		template, selector := pod(t, all)
		own := labels.Set(template.Labels)
		service, metrics := services(t, all)
		selectors := []labels.Selector{labels.SelectorFromSet(selector.MatchLabels), labels.SelectorFromSet(service.Spec.Selector)}
		for _, o := range all {
			switch x := o.(type) {
			case *policyv1.PodDisruptionBudget:
				selectors = append(selectors, labels.SelectorFromSet(x.Spec.Selector.MatchLabels))
			case *networkingv1.NetworkPolicy:
				selectors = append(selectors, labels.SelectorFromSet(x.Spec.PodSelector.MatchLabels))
			case *monitoring.ServiceMonitor:
				scraped := labels.SelectorFromSet(x.Spec.Selector.MatchLabels)
				if metrics == nil || !scraped.Matches(labels.Set(metrics.Labels)) || x.Spec.Endpoints[0].Port != metrics.Spec.Ports[0].Name || metrics.Spec.ClusterIP != "None" {
					t.Errorf("%s: the metrics are not scraped", name)
				} else if scraped.Matches(labels.Set(service.Labels)) {
					t.Errorf("%s: the service that may lead outside is scraped", name)
				}
			case *networkingv1.Ingress:
				b := x.Spec.Rules[0].HTTP.Paths[0].Backend.Service
				if b.Name != service.Name || b.Port.Name != service.Spec.Ports[0].Name {
					t.Errorf("%s: the ingress leads to %v", name, b)
				}
			case *corev1.Pod:
				if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(x.Labels)) {
					t.Errorf("%s: the service leads to the pod of the test", name)
				}
				if got, want := x.Spec.Containers[0].Args, fmt.Sprintf("%s:%d", service.Name, service.Spec.Ports[0].Port); got[0] != "healthcheck" || got[2] != want {
					t.Errorf("%s: the test asks %v", name, got)
				}
			}
		}
		for _, s := range selectors {
			if !s.Matches(own) {
				t.Errorf("%s: %s does not select the pods, %v", name, s, own)
			}
			if strings.Contains(s.String(), "version") || strings.Contains(s.String(), "chart") {
				t.Errorf("%s: %s would select no pod of another version", name, s)
			}
		}
		if got := service.Spec.Ports[0].TargetPort.String(); got != template.Spec.Containers[0].Ports[0].Name {
			t.Errorf("%s: the service leads to port %s", name, got)
		}
	}
}

// services returns the service of the API and the one of metrics, nil if there is none.
func services(t *testing.T, all []metav1.Object) (main, metrics *corev1.Service) {
	t.Helper()
	for _, o := range all {
		if s, ok := o.(*corev1.Service); ok {
			if strings.HasSuffix(s.Name, "-metrics") {
				metrics = s
			} else {
				main = s
			}
		}
	}
	if main == nil || len(main.Spec.Ports) != 1 {
		t.Fatalf("the service leads to more than the API: %+v", main)
	}
	return main, metrics
}

// The pods satisfy the strictest of the Pod Security Standards, and further restrictions.
func TestChart_podsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, name := range examples {
		all := objects(t, valuesOf(t, name))
		template, _ := pod(t, all)
		test := one[*corev1.Pod](t, all)
		for _, p := range []struct {
			meta *metav1.ObjectMeta
			spec *corev1.PodSpec
		}{{&template.ObjectMeta, &template.Spec}, {&test.ObjectMeta, &test.Spec}} {
			if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, p.meta, p.spec)); !r.Allowed {
				t.Errorf("%s: %s", name, r.ForbiddenDetail())
			}
			if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
				t.Errorf("%s: a pod has a token for the API of Kubernetes", name)
			}
			c := p.spec.Containers[0]
			if s := c.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s: the root of %s can be written", name, c.Name)
			}
			if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: the memory of %s has no bounds", name, c.Name)
			}
		}
		// Kubernetes kills a pod that has not stopped after this period.
		c := template.Spec.Containers[0]
		stop, err := time.ParseDuration(variable(t, &c, "POSTHASTE_STOP_TIMEOUT").Value)
		if err != nil {
			t.Fatal(err)
		}
		grace := time.Duration(*template.Spec.TerminationGracePeriodSeconds) * time.Second
		if wait := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second; grace < wait+stop+5*time.Second {
			t.Errorf("%s: %s of grace for %s and %s", name, grace, wait, stop)
		}
	}
}

func variable(t *testing.T, c *corev1.Container, name string) corev1.EnvVar {
	t.Helper()
	for _, e := range c.Env {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("%s is not set", name)
	return corev1.EnvVar{}
}

// Every variable is one that the server reads, none is set twice, and secrets are read only
// from the operator's Secret.
func TestChart_variables(t *testing.T) {
	secret := map[string]string{"POSTHASTE_MASTER_KEY": "master-key", "POSTHASTE_ADMIN_KEY": "admin-key", "POSTHASTE_DATABASE_URL": "database-url", "POSTHASTE_NOTIFY_SECRET": "notify-secret"}
	for _, name := range examples {
		template, _ := pod(t, objects(t, valuesOf(t, name)))
		seen := map[string]bool{}
		for _, e := range template.Spec.Containers[0].Env {
			if !isSetting(t, e.Name) {
				t.Errorf("%s: nothing reads %s", name, e.Name)
			}
			if seen[e.Name] {
				t.Errorf("%s: %s is set twice", name, e.Name)
			}
			seen[e.Name] = true
			from := e.ValueFrom
			if key := secret[e.Name]; key != "" && (e.Value != "" || from == nil || from.SecretKeyRef.Name != "posthaste-keys" || from.SecretKeyRef.Key != key) {
				t.Errorf("%s: %s is not from the Secret: %+v", name, e.Name, e)
			}
		}
		if seen["POSTHASTE_DATABASE_URL"] != (name != "sqlite") {
			t.Errorf("%s: has a database: %v", name, seen["POSTHASTE_DATABASE_URL"])
		}
	}
	// Settings without a value of their own in the chart can be given too.
	values := valuesOf(t, "sqlite", "settings: {max-body: 1048576, live-schedule: '5s,5m', allow-plain-live: false, rate-limit: 12000000}")
	template, _ := pod(t, objects(t, values))
	for k, want := range map[string]string{"POSTHASTE_MAX_BODY": "1048576", "POSTHASTE_LIVE_SCHEDULE": "5s,5m", "POSTHASTE_ALLOW_PLAIN_LIVE": "false", "POSTHASTE_RATE_LIMIT": "12000000"} {
		if got := variable(t, &template.Spec.Containers[0], k).Value; got != want {
			t.Errorf("%s=%q, want %q", k, got, want)
		}
	}
}

// Values that cannot work are refused, and the error states the remedy.
func TestChart_refuses(t *testing.T) {
	for _, c := range []struct{ values, change, says string }{
		{"sqlite", "replicas: 2", "two servers cannot share a file"},
		{"sqlite", "replicas: 0", "replicas"},
		{"sqlite", "store: mysql", "store"},
		{"sqlite", "existingSecret: ''", "master-key"},
		{"sqlite", "image: {}", "image.repository"},
		{"sqlite", "image: {repository: r, tag: latest}", "tag"},
		{"sqlite", "masterKey: phmk_secret", "masterKey"},
		{"sqlite", "settings: {database-url: 'postgres://u:p@db/x'}", "database-url"},
		{"sqlite", "settings: {dev: true}", "dev"},
		{"sqlite", "stopTimeoutSeconds: 60", "stopTimeoutSeconds"},
		{"postgres", "networkPolicy: {enabled: true}", "the way to the database"},
		{"sqlite", "ingress: {enabled: true}", "hosts"},
	} {
		if _, err := render(valuesOf(t, c.values, c.change)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s: %v", c.values, c.change, err)
		}
	}
}

// The chart's alerts are those of deploy/prometheus, and reach the cluster unchanged.
func TestChart_alerts(t *testing.T) {
	source := read(t, "deploy/prometheus/alerts.yaml")
	if linked := read(t, "deploy/helm/posthaste/files/alerts.yaml"); linked != source {
		t.Error("they are others: link deploy/helm/posthaste/files/alerts.yaml to ../../../prometheus/alerts.yaml")
	}
	all := objects(t, valuesOf(t, "all"))
	rule := one[*monitoring.PrometheusRule](t, all)
	var want monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(source), &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Groups) < 5 || !reflect.DeepEqual(rule.Spec, want) {
		t.Errorf("%d groups of alerts became %d others", len(want.Groups), len(rule.Spec.Groups))
	}
	if !strings.Contains(source, `job="posthaste"`) {
		t.Error("the alerts use another job name")
	}
	relabel := one[*monitoring.ServiceMonitor](t, all).Spec.Endpoints[0].RelabelConfigs
	if len(relabel) != 1 || relabel[0].TargetLabel != "job" || *relabel[0].Replacement != "posthaste" {
		t.Errorf("the job does not have the name in the alerts: %+v", relabel)
	}
}

// The values in the documentation are valid for this chart.
func TestChart_documentation(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "docs/how-to/run-in-containers.md"), -1)
	for _, b := range blocks {
		var values map[string]any
		if err := yaml.UnmarshalStrict([]byte(b[1]), &values); err != nil {
			t.Fatal(err)
		}
		template, _ := pod(t, objects(t, values))
		if got := template.Spec.Containers[0].Image; got != "registry.example.com/posthaste:1.2.3" {
			t.Errorf("%s makes pods of %s", b[1], got)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("%d examples of values", len(blocks))
	}
}

func TestChart_notes(t *testing.T) {
	for _, name := range examples {
		files, err := render(valuesOf(t, name))
		if err != nil {
			t.Fatal(err)
		}
		notes := files["posthaste/templates/NOTES.txt"]
		kind := "deployment/"
		if name == "sqlite" {
			kind = "statefulset/"
		}
		for _, want := range []string{"kubectl --namespace payments rollout status " + kind, "helm --namespace payments test hooks", "users create alice --role admin"} {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: the notes lack %q:\n%s", name, want, notes)
			}
		}
	}
}

// The container works in the chart's configuration: it starts with the chart's variables and
// answers the probes.
func TestChart_containerServes(t *testing.T) {
	template, _ := pod(t, objects(t, valuesOf(t, "sqlite")))
	spec := template.Spec.Containers[0]
	c := newContainer(t, nil)
	key, err := c.command("/usr/bin/posthaste", "keys", "new-master").Output()
	if err != nil {
		t.Fatal(err)
	}
	secret := map[string]string{"master-key": string(bytes.TrimSpace(key)), "admin-key": "sk_admin_0123456789abcdef"}
	port, metricsPort := freePort(t), freePort(t)
	for _, e := range spec.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = secret[e.ValueFrom.SecretKeyRef.Key]
		}
		if e.Name == "POSTHASTE_ADDR" {
			if want := fmt.Sprintf(":%d", spec.Ports[0].ContainerPort); value != want {
				t.Errorf("it listens on %s; the probes ask %s", value, want)
			}
			value = ":" + port
		}
		if e.Name == "POSTHASTE_METRICS_ADDR" {
			if want := fmt.Sprintf(":%d", spec.Ports[1].ContainerPort); value != want || spec.Ports[1].Name != "metrics" {
				t.Errorf("metrics are at %s; they are scraped at %s", value, want)
			}
			value = ":" + metricsPort
		}
		c.env = append(c.env, e.Name+"="+value)
	}
	s := c.start(append([]string{"/usr/bin/posthaste"}, spec.Args...)...)
	probes := []*corev1.Probe{spec.StartupProbe, spec.LivenessProbe, spec.ReadinessProbe}
	for _, p := range probes {
		if p.HTTPGet.Port.String() != spec.Ports[0].Name {
			t.Errorf("a probe uses port %s", p.HTTPGet.Port.String())
		}
		until(t, p.HTTPGet.Path, func() bool { return answers(t, "http://127.0.0.1:"+port+p.HTTPGet.Path) })
	}
	if answers(t, "http://127.0.0.1:"+port+"/nothing") {
		t.Error("it answers any path: the probes prove nothing")
	}
	monitor := one[*monitoring.ServiceMonitor](t, objects(t, valuesOf(t, "all")))
	if !answers(t, "http://127.0.0.1:"+metricsPort+monitor.Spec.Endpoints[0].Path) {
		t.Errorf("%s does not serve metrics", monitor.Spec.Endpoints[0].Path)
	}
	if answers(t, "http://127.0.0.1:"+port+monitor.Spec.Endpoints[0].Path) {
		t.Error("the ingress passes on the metrics")
	}
	// The command in the notes works.
	out, err := c.command("/usr/bin/posthaste", "users", "create", "alice", "--role", "admin").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Password:")) {
		t.Errorf("make a user: %v %s", err, out)
	}
	if out, err := c.command("/usr/bin/posthaste", "backup", "/data/copy.db").CombinedOutput(); err != nil {
		t.Errorf("back up: %v %s", err, out)
	}
	s.stop()
	for _, name := range []string{"store/posthaste.db", "copy.db"} {
		if _, err := os.Stat(filepath.Join(c.data, name)); err != nil {
			t.Errorf("the volume lacks data: %v", err)
		}
	}
	if info, err := os.Stat(filepath.Join(c.data, "store")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others can read the data: %v", err)
	}
	if !slices.ContainsFunc(spec.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/data" }) {
		t.Error("the data is in no volume")
	}
}
