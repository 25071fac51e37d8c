// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/desired"
	desiredkube "github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/nodestate"
	"github.com/fairlead/fairlead/controller/watch/file"
	"github.com/fairlead/fairlead/controller/watch/kube"
)

// clusterFlags are the flags of commands that speak to a cluster.
type clusterFlags struct {
	kubeconfig, namespace string
	class                 desiredkube.Class
}

func (f *clusterFlags) register(env *env, flags *flag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", env.getenv("KUBECONFIG"), "`FILE` for the Kubernetes API; KUBECONFIG changes the default; none: that of the Pod that this runs in")
	flags.StringVar(&f.namespace, "namespace", cmp.Or(env.getenv("POD_NAMESPACE"), podNamespace()), "Fairlead's own `NAMESPACE` in Kubernetes; POD_NAMESPACE changes the default")
	flags.StringVar(&f.class.Name, "load-balancer-class", desiredkube.DefaultClass, "`CLASS` of the Services that are Fairlead's")
	flags.BoolVar(&f.class.Unclassed, "unclassed", true, "take Services without a class, too")
}

// podNamespace is the namespace of the Pod that this runs in, or else where
// Fairlead's own objects usually are.
func podNamespace() string {
	const file = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
		return strings.TrimSpace(string(text))
	}
	return "fairlead-system"
}

func (f *clusterFlags) config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	config.UserAgent = "fairlead/" + version
	return config, nil
}

// kubeFlags are the flags of an agent in a cluster.
type kubeFlags struct {
	clusterFlags
	on       bool
	node     string
	announce announceFlags
}

func (f *kubeFlags) register(env *env, flags *flag.FlagSet) {
	f.clusterFlags.register(env, flags)
	flags.BoolVar(&f.on, "kubernetes", false, "take services, nodes and keys from the Kubernetes API; the configuration file has the rest")
	flags.StringVar(&f.node, "node-name", env.getenv("NODE_NAME"), "`NAME` of this node in Kubernetes; NODE_NAME changes the default")
	f.announce.register(flags)
}

func (f *kubeFlags) check() error {
	if f.on && f.node == "" {
		return usageError{errors.New("--node-name is missing: --kubernetes needs it")}
	}
	return nil
}

// kubeSource is a cluster, with the settings of a file.
type kubeSource struct {
	flags     kubeFlags
	path      string // of the settings; "": none
	log       *slog.Logger
	file      *file.Watcher
	cluster   *kube.Watcher
	publisher *nodestate.Publisher
	changed   chan struct{}
	boot      string

	// Of one goroutine at a time.
	settings *desired.Snapshot // as last accepted
	refused  error             // the file as it is now
	reload   chan struct{}     // the file changed
	uplinks  []string          // found by addrs
	addrs    []netip.Addr
}

// bootIDFile tells this boot from others, as Node.status.nodeInfo.bootID does.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

func newKubeSource(f kubeFlags, path string, log *slog.Logger) (*kubeSource, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	writer, err := client.New(config, client.Options{Scheme: kube.Scheme(), Mapper: kube.Mapper()})
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client: %w", err)
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	v := thisVersion()
	return &kubeSource{
		flags: f, path: path, log: log,
		file: file.NewSettingsWatcher(path, log),
		cluster: kube.New(kube.Options{
			Config: config, Node: f.node, Namespace: f.namespace, Class: f.class, Logger: log,
			Announce: f.announce.on,
			Versions: desiredkube.Versions{Wire: int32(v.Wire), Hash: int32(v.Hash)},
		}),
		publisher: nodestate.New(writer, f.namespace, f.node, log),
		changed:   make(chan struct{}, 1),
		reload:    make(chan struct{}, 1),
		boot:      strings.TrimSpace(string(boot)),
	}, nil
}

func (s *kubeSource) Place() string {
	if s.path == "" {
		return "Kubernetes"
	}
	return "Kubernetes and " + s.path
}

// Settings reads the file for the first time.
func (s *kubeSource) Settings() (desired.Settings, error) {
	snapshot, err := s.load()
	if err != nil {
		return desired.Settings{}, err
	}
	s.settings = snapshot
	return snapshot.Settings, nil
}

func (s *kubeSource) load() (*desired.Snapshot, error) {
	if s.path == "" {
		return file.LoadSettings("")
	}
	return s.file.Load()
}

func (s *kubeSource) Changed() <-chan struct{} { return s.changed }

// Run follows the cluster and the file, and publishes.
func (s *kubeSource) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.cluster.Run(ctx) })
	group.Go(func() error { s.publisher.Run(ctx); return nil })
	if s.path != "" {
		group.Go(func() error { s.file.Run(ctx); return nil })
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.cluster.Changed():
			case <-s.file.Changed():
				notify(s.reload)
			}
			notify(s.changed)
		}
	})
	return group.Wait()
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Load returns the cluster with the settings of the file. A bad file changes
// nothing and keeps nothing else from changing.
func (s *kubeSource) Load() (*desired.Snapshot, error) {
	select {
	case <-s.reload:
		snapshot, err := s.load()
		if err == nil {
			err = checkFixed(s.settings.Settings, snapshot.Settings)
		}
		if s.refused = err; err == nil {
			s.settings = snapshot
		}
	default:
	}
	snapshot, err := s.cluster.Load(s.settings.Settings)
	if err != nil {
		return nil, err
	}
	problem := s.refused
	if len(snapshot.Settings.Interfaces) == 0 {
		if err := s.findUplinks(snapshot.Settings.Addrs); err != nil {
			if s.uplinks == nil {
				return nil, fmt.Errorf("%w: %w", kube.ErrNotReady, err)
			}
			problem = errors.Join(problem, err)
		}
		snapshot.Settings.Interfaces = s.uplinks
	}
	return snapshot, problem
}

// findUplinks looks when the addresses are new. Devices that were found stay
// where the search finds none.
func (s *kubeSource) findUplinks(addrs []netip.Addr) error {
	if s.uplinks != nil && slices.Equal(addrs, s.addrs) {
		return nil
	}
	found, err := uplinksOf(addrs)
	if err != nil {
		return err
	}
	s.uplinks, s.addrs = found, addrs
	return nil
}

// detachTimeout is how long the API server may take to hear that a node is out.
const detachTimeout = 30 * time.Second

// detach tells the cluster that the node's programs are going.
func (f *kubeFlags) detach(ctx context.Context) error {
	config, err := f.config()
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: kube.Scheme(), Mapper: kube.Mapper()})
	if err != nil {
		return fmt.Errorf("make a Kubernetes client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	return nodestate.Detach(ctx, c, f.namespace, f.node)
}
