// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	settings "github.com/fairlead/fairlead/controller/desired"
)

// announcedPending takes a signal.
func (w *Watcher) announcedPending() bool {
	select {
	case <-w.config.changed:
		return true
	default:
		return false
	}
}

func ownMeta(name string) metav1.ObjectMeta { return richMeta("fairlead-system", name) }

func TestAnnouncing(t *testing.T) {
	w := synced(t)
	if _, err := w.Load(settings.Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.Announcing(); ok {
		t.Fatal("known before anything was heard of it")
	}
	w.announcedPending()
	password := &corev1.Secret{ObjectMeta: ownMeta("r1"), Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte("x"), "username": []byte("y")}}
	cut, err := stripConfig(password)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []any{
		&v1beta1.IPAddressPool{ObjectMeta: ownMeta("a")}, &v1beta1.L2Advertisement{ObjectMeta: ownMeta("a")},
		&v1beta1.BGPAdvertisement{ObjectMeta: ownMeta("a")}, &v1beta1.BGPPeer{ObjectMeta: ownMeta("a")},
		&v1beta1.Community{ObjectMeta: ownMeta("a")}, &v1beta1.BFDProfile{ObjectMeta: ownMeta("a")}, cut,
	} {
		w.configEvent(nil, o)
	}
	w.hearConfig()
	if w.pending() {
		t.Error("forwarding is told of what only announcing goes by")
	}
	a, ok := w.Announcing()
	if !ok || !w.announcedPending() {
		t.Fatal("not known")
	}
	c := a.Config
	if len(c.Pools) != 1 || len(c.L2Advertisements) != 1 || len(c.BGPAdvertisements) != 1 || len(c.BGPPeers) != 1 ||
		len(c.Communities) != 1 || len(c.BFDProfiles) != 1 || !c.SecretsKnown || len(c.Nodes) != 2 || c.Nodes["node1"]["team"] != "shop" {
		t.Errorf("config: %+v", c)
	}
	if diff := cmp.Diff(map[string][]byte{"password": []byte("x")}, c.Secrets["r1"].Data); diff != "" {
		t.Errorf("secret: -want +got:\n%s", diff)
	}
	if len(a.Services) != 1 || !slices.Equal(a.Services[0].Nodes, []string{"node1", "node2"}) || w.Version() != "7" || len(a.Nodes) != 2 {
		t.Errorf("services %+v, version %q, nodes %+v", a.Services, w.Version(), a.Nodes)
	}
	for _, n := range a.Nodes {
		if !n.Attached || !n.Known {
			t.Errorf("%s: %+v", n.Object.Name, n)
		}
	}
}

// What changes is told, and nothing else.
func TestAnnouncedSignal(t *testing.T) {
	w := synced(t)
	w.hearConfig()
	pool := &v1beta1.IPAddressPool{ObjectMeta: ownMeta("a")}
	w.configEvent(nil, pool)
	secret := &corev1.Secret{ObjectMeta: ownMeta("r1"), Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte("x")}}
	w.configEvent(nil, secret)
	w.announcedPending()
	revision := func() uint64 {
		a, _ := w.Announcing()
		return a.Revision
	}
	before := revision()
	status := edit(pool.DeepCopy(), "8")
	status.Status.Conditions = []metav1.Condition{{Type: "Valid"}}
	w.configEvent(pool, status)
	w.configEvent(secret, edit(secret.DeepCopy(), "8"))
	if w.announcedPending() || revision() != before {
		t.Error("a status and a resync are told")
	}
	spec := edit(status.DeepCopy(), "9")
	spec.Generation++
	other := edit(secret.DeepCopy(), "9")
	other.Data["password"] = []byte("z")
	labelled := edit(richNode(2), "9")
	labelled.Labels = map[string]string{"rack": "a"}
	for what, event := range map[string]func(){
		"spec":   func() { w.configEvent(status, spec) },
		"secret": func() { w.configEvent(secret, other) },
		"gone":   func() { w.configEvent(toolscache.DeletedFinalStateUnknown{Obj: secret}, nil) },
		"labels": func() { w.event(richNode(2), labelled) },
	} {
		before := revision()
		event()
		if !w.announcedPending() || revision() == before {
			t.Errorf("%s: not told", what)
		}
	}
	w.event(richState(2), edit(richState(2), "9"))
	if !w.announcedPending() {
		t.Error("a NodeState is not told")
	}
}

func TestLater(t *testing.T) {
	for _, test := range [][3]string{{"", "7", "7"}, {"7", "12", "12"}, {"12", "7", "12"}, {"7", "7", "7"}} {
		if got := later(test[0], test[1]); got != test[2] {
			t.Errorf("%q and %q: %q", test[0], test[1], got)
		}
	}
}
