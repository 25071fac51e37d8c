// SPDX-License-Identifier: Apache-2.0

package nodestate

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

var name = types.NamespacedName{Namespace: "fairlead-system", Name: "node1"}

// api counts writes, and fails them on demand.
type api struct {
	client.WithWatch
	writes  atomic.Int64
	refuses atomic.Bool
}

var errRefused = errors.New("refused")

func newAPI(t *testing.T) *api {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	a := &api{}
	a.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1beta1.NodeState{}).WithInterceptorFuncs(interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, options ...client.SubResourceUpdateOption) error {
			if a.refuses.Load() {
				return errRefused
			}
			a.writes.Add(1)
			return c.SubResource(sub).Update(ctx, o, options...)
		},
	}).Build()
	return a
}

func (a *api) state(t *testing.T) *v1beta1.NodeState {
	t.Helper()
	o := &v1beta1.NodeState{}
	if err := a.Get(t.Context(), name, o); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	return o
}

// publisher runs until the test ends.
func publisher(t *testing.T, a *api) *Publisher {
	t.Helper()
	p := New(a, name.Namespace, name.Name, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return p
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func status(version string) *v1beta1.NodeStateStatus {
	return &v1beta1.NodeStateStatus{Attached: true, BootID: "boot", Version: version}
}

func TestPublish(t *testing.T) {
	a := newAPI(t)
	p := publisher(t, a)
	p.Set(status("1"), "uid")
	eventually(t, "created", func() bool { s := a.state(t); return s != nil && s.Status.Version == "1" })
	want := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node1", UID: "uid"}}
	if diff := cmp.Diff(want, a.state(t).OwnerReferences); diff != "" {
		t.Errorf("owner: -want +got:\n%s", diff)
	}

	// Only what differs is written.
	p.Set(status("1"), "uid")
	p.Check(a.state(t))
	p.Set(status("2"), "uid")
	eventually(t, "changed", func() bool { return a.state(t).Status.Version == "2" })
	if n := a.writes.Load(); n != 2 {
		t.Errorf("%d writes", n)
	}
	if written, err := p.State(); written != 2 || err != nil {
		t.Errorf("state: %d %v", written, err)
	}
}

// Somebody else changes it, or deletes it.
func TestPublishAgain(t *testing.T) {
	a := newAPI(t)
	p := publisher(t, a)
	p.Set(status("1"), "uid")
	eventually(t, "created", func() bool { s := a.state(t); return s != nil && s.Status.Version == "1" })
	spoiled := a.state(t)
	spoiled.Status.Attached = false
	if err := a.Status().Update(t.Context(), spoiled); err != nil {
		t.Fatal(err)
	}
	p.Check(a.state(t))
	eventually(t, "mended", func() bool { return a.state(t).Status.Attached })
	if err := a.Delete(t.Context(), a.state(t)); err != nil {
		t.Fatal(err)
	}
	p.Check(nil)
	eventually(t, "made again", func() bool { s := a.state(t); return s != nil && s.Status.Attached })
}

func TestPublishRetries(t *testing.T) {
	a := newAPI(t)
	a.refuses.Store(true)
	p := publisher(t, a)
	p.Set(status("1"), "uid")
	eventually(t, "failure told", func() bool { _, err := p.State(); return errors.Is(err, errRefused) })
	a.refuses.Store(false)
	eventually(t, "retried", func() bool { s := a.state(t); return s != nil && s.Status.Version == "1" })
	eventually(t, "no failure any more", func() bool { _, err := p.State(); return err == nil })
}

// Without a Node there is nobody to own a NodeState.
func TestPublishWithoutNode(t *testing.T) {
	a := newAPI(t)
	p := publisher(t, a)
	p.Set(status("1"), "")
	eventually(t, "failure told", func() bool { _, err := p.State(); return err != nil })
	if s := a.state(t); s != nil {
		t.Errorf("created %+v", s)
	}
	p.Set(status("1"), "uid")
	eventually(t, "created", func() bool { return a.state(t) != nil })
}

func TestDetach(t *testing.T) {
	a := newAPI(t)
	if err := Detach(t.Context(), a, name.Namespace, name.Name); err != nil {
		t.Errorf("no NodeState: %v", err)
	}
	p := publisher(t, a)
	s := status("1")
	s.Draining = []v1beta1.DrainingEndpoint{{Service: "default/web", Address: "10.244.1.2:80"}}
	p.Set(s, "uid")
	eventually(t, "created", func() bool { s := a.state(t); return s != nil && s.Status.Attached })
	if err := Detach(t.Context(), a, name.Namespace, name.Name); err != nil {
		t.Fatal(err)
	}
	if s := a.state(t).Status; s.Attached || s.Draining != nil || s.Version != "1" {
		t.Errorf("%+v", s)
	}
	a.refuses.Store(true)
	if err := Detach(t.Context(), a, name.Namespace, name.Name); !errors.Is(err, errRefused) {
		t.Errorf("%v", err)
	}
}
