// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// enforceTimeout is for the API server to take notice of roles and policies.
const enforceTimeout = 30 * time.Second

// TestOnAPIServer installs everything on a real API server, as a user would,
// and asks it what the ServiceAccounts may do.
func TestOnAPIServer(t *testing.T) {
	t.Parallel()
	control := kube.ForTest(t, kube.Options{})
	apply := func(manifest []byte, flags ...string) {
		t.Helper()
		args := append([]string{"apply", "--server-side", "--validate=strict", "-f", "-"}, flags...)
		if out, err := control.Kubectl(t.Context(), string(manifest), args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := control.CreateNamespace(t.Context(), manifests.Namespace); err != nil {
		t.Fatal(err)
	}
	for _, manifest := range [][]byte{manifests.Install, manifests.Cleanup} {
		apply(manifest, "--dry-run=server")
		apply(manifest)
		apply(manifest) // again changes nothing
	}
	example, err := os.ReadFile("../kind/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply(example)
	t.Run("rights", func(t *testing.T) { testRights(t, control) })
	t.Run("node states", func(t *testing.T) { testNodeStates(t, control) })
}

func testRights(t *testing.T, control *kube.ControlPlane) {
	for _, account := range ours {
		t.Run(account.account, func(t *testing.T) {
			client, err := kubernetes.NewForConfig(tokenConfig(t, control, account.account, nil))
			if err != nil {
				t.Fatal(err)
			}
			waitAllowed(t, client, account.allowed[0])
			for _, r := range account.allowed {
				expect(t, client, r, true)
			}
			for _, r := range append(account.none, nobody...) {
				expect(t, client, r, false)
			}
		})
	}
}

// waitAllowed waits until the API server knows the roles.
func waitAllowed(t *testing.T, client kubernetes.Interface, r right) {
	t.Helper()
	var last error
	if err := lab.Poll(t.Context(), enforceTimeout, func() bool {
		var allowed bool
		allowed, last = ask(t.Context(), client, r, strings.Fields(r.verbs)[0])
		return allowed && last == nil
	}); err != nil {
		t.Fatalf("wait for roles: %v, %v", err, last)
	}
}

func expect(t *testing.T, client kubernetes.Interface, r right, want bool) {
	t.Helper()
	for verb := range strings.FieldsSeq(r.verbs) {
		allowed, err := ask(t.Context(), client, r, verb)
		if err != nil {
			t.Fatal(err)
		}
		if allowed != want {
			t.Errorf("%s %s %q of group %q in %q: allowed %t, want %t", verb, r.resource, r.name, r.group, r.namespace, allowed, want)
		}
	}
}

// ask asks the API server as the one who wants to do it.
func ask(ctx context.Context, client kubernetes.Interface, r right, verb string) (bool, error) {
	resource, sub, _ := strings.Cut(r.resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: r.group, Resource: resource, Subresource: sub, Name: r.name,
			Namespace: strings.TrimPrefix(r.namespace, everywhere), // "": in all of them
		},
	}}
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask for %s of %s: %w", verb, r.resource, err)
	}
	return review.Status.Allowed, nil
}

// tokenConfig is for clients with a real token of the ServiceAccount, bound to
// the Pod if there is one, as kubelets ask for them.
func tokenConfig(t *testing.T, control *kube.ControlPlane, account string, pod *corev1.Pod) *rest.Config {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		}
	}
	request, err := control.Client().CoreV1().ServiceAccounts(manifests.Namespace).
		CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(control.RESTConfig())
	config.BearerToken = request.Status.Token
	return config
}
