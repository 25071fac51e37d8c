// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const programTimeout = time.Minute

const pool = `
apiVersion: fairlead.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: fairlead-system}
spec: {addresses: [192.0.2.0/28]}
`

// TestControllerWithItsRights runs the controller, and then the cleanup, with
// the tokens of their ServiceAccounts: what they do is what they may.
func TestControllerWithItsRights(t *testing.T) {
	t.Parallel()
	control := kube.ForTest(t, kube.Options{})
	fairlead := build(t)
	ctx := t.Context()
	for _, manifest := range []string{string(manifests.Install), string(manifests.Cleanup), pool} {
		if err := lab.Poll(ctx, enforceTimeout, func() bool { // definitions take a moment
			_, err := control.Kubectl(ctx, manifest, "apply", "--server-side", "-f", "-")
			return err == nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	services := control.Client().CoreV1().Services("default")
	web := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if _, err := services.Create(ctx, web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	controller := start(t, fairlead, "controller", "--kubeconfig", kubeconfig(t, control, manifests.ControllerServiceAccount),
		"--namespace", manifests.Namespace)
	wait(t, "an address", controller, func() (bool, error) {
		s, err := services.Get(ctx, "web", metav1.GetOptions{})
		return err == nil && len(s.Status.LoadBalancer.Ingress) == 1 && len(s.Finalizers) == 1, err
	})
	wait(t, "the key of the wire", controller, func() (bool, error) {
		_, err := control.Client().CoreV1().Secrets(manifests.Namespace).Get(ctx, "fairlead-wire-key", metav1.GetOptions{})
		return err == nil, err
	})
	wait(t, "an event", controller, func() (bool, error) {
		events, err := control.Client().EventsV1().Events("default").List(ctx, metav1.ListOptions{})
		return err == nil && len(events.Items) > 0, err
	})
	controller.end(t)

	cleanup := start(t, fairlead, "controller", "--cleanup", "--kubeconfig", kubeconfig(t, control, manifests.CleanupServiceAccount),
		"--namespace", manifests.Namespace)
	if err := cleanup.Wait(); err != nil {
		t.Fatalf("cleanup: %v: %s", err, cleanup.said())
	}
	s, err := services.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Finalizers) > 0 || len(s.Status.Conditions) > 0 {
		t.Errorf("after the cleanup: finalizers %q, status %+v", s.Finalizers, s.Status)
	}
	if err := services.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Get(ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Service is stuck: %v", err)
	}
	for _, p := range []*program{controller, cleanup} {
		if strings.Contains(p.said(), "orbidden") {
			t.Errorf("something was forbidden:\n%s", p.said())
		}
	}
}

// build compiles fairlead for the test.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fairlead")
	cmd := exec.Command("go", "build", "-o", path, "github.com/fairlead/fairlead/cmd/fairlead")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build fairlead: %v: %s", err, out)
	}
	return path
}

// program is a running fairlead, which ends with its test.
type program struct {
	*lab.Process
	log string
}

func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := lab.StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Kill(); err != nil {
			t.Error(err)
		}
	})
	return &program{process, log.Name()}
}

// end stops the program as Kubernetes does.
func (p *program) end(t *testing.T) {
	t.Helper()
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the end: %v: %s", err, p.said())
	}
}

// said is all that it has written so far.
func (p *program) said() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(data))
}

// wait waits for something that the program does.
func wait(t *testing.T, what string, p *program, done func() (bool, error)) {
	t.Helper()
	var last error
	err := lab.Poll(t.Context(), programTimeout, func() bool {
		select {
		case <-p.Done():
			last = fmt.Errorf("ended: %w", p.Wait())
			return true
		default:
		}
		var ok bool
		ok, last = done()
		return ok
	})
	if err != nil || last != nil {
		t.Fatalf("wait for %s: %v, %v\n%s", what, err, last, p.said())
	}
}

// kubeconfig is a file with a token of the ServiceAccount.
func kubeconfig(t *testing.T, control *kube.ControlPlane, account string) string {
	t.Helper()
	config := tokenConfig(t, control, account, nil)
	file := clientcmdapi.NewConfig()
	file.Clusters["lab"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["lab"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	file.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "lab"}
	file.CurrentContext = "lab"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}
