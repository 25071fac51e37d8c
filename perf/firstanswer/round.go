// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fairlead/fairlead/perf/lab/kube/cluster"
)

// pods run all the time; every round has a pool and a Service of its own.
const (
	pods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: ` + cluster.Image + `
        args: [pod, --port=8080]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 100m}}
`
	service = `
apiVersion: fairlead.io/v1beta1
kind: IPAddressPool
metadata: {name: web-%[1]d, namespace: fairlead-system}
spec: {addresses: [%[2]s/32]}
---
apiVersion: v1
kind: Service
metadata: {name: web-%[1]d, namespace: default, annotations: {fairlead.io/address-pool: web-%[1]d}}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`
)

// net4 is where all addresses are out of.
var net4 = netip.MustParsePrefix("192.0.2.0/24")

const (
	roundTimeout = time.Minute
	// So many ask in turns, each for as long as patience: askEvery is the time
	// between two attempts, and the resolution of a round.
	askers   = 64
	askEvery = 4 * time.Millisecond
	patience = askers * askEvery
	// hops are enough for the way there, and end what nobody takes yet: nodes send
	// it back to the router, which has a route to them from the beginning.
	hops = 6
)

// sample is one round, as times since kubectl was started.
type sample struct{ kubectl, address, answer time.Duration }

type world struct{ *cluster.Cluster }

// prepare starts the Pods and gives the router its routes.
func (w world) prepare(ctx context.Context) error {
	if err := w.Lab.RouteNet(net4, w.Lab.Nodes...); err != nil {
		return err
	}
	if err := w.Apply(ctx, pods); err != nil {
		return err
	}
	return w.WaitRollout(ctx, "default", "deployment/web")
}

// round applies a pool and a Service and waits for the first answer.
func (w world) round(ctx context.Context, i int) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	vip := net4.Addr()
	for range i + 1 {
		vip = vip.Next()
	}
	name := fmt.Sprintf("web-%d", i)
	services, err := w.Control.Client().CoreV1().Services("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return s, fmt.Errorf("watch service: %w", err)
	}
	defer services.Stop()
	var wg sync.WaitGroup
	var errs [3]error
	begun := time.Now()
	wg.Go(func() {
		errs[0] = w.Apply(ctx, fmt.Sprintf(service, i, vip))
		s.kubectl = time.Since(begun)
	})
	wg.Go(func() {
		errs[1] = waitAddress(ctx, services)
		s.address = time.Since(begun)
	})
	wg.Go(func() {
		errs[2] = w.ask(ctx, netip.AddrPortFrom(vip, cluster.ServicePort))
		s.answer = time.Since(begun)
	})
	wg.Wait()
	return s, errors.Join(errs[:]...)
}

// waitAddress returns when the Service has an address.
func waitAddress(ctx context.Context, services watch.Interface) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the address: %w", ctx.Err())
		case event, ok := <-services.ResultChan():
			if !ok {
				return fmt.Errorf("wait for the address: the watch ended")
			}
			if s, ok := event.Object.(*corev1.Service); ok && len(s.Status.LoadBalancer.Ingress) > 0 {
				return nil
			}
		}
	}
}

// ask makes connections, askEvery apart, until one of them has an answer.
func (w world) ask(ctx context.Context, vip netip.AddrPort) error {
	ctx, answered := context.WithCancelCause(ctx)
	defer answered(nil)
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			err := w.Lab.Client.Do(func() error {
				wait(ctx, time.Duration(i)*askEvery)
				for ctx.Err() == nil {
					begun := time.Now()
					if hello(ctx, vip) == nil {
						answered(errAnswered)
					}
					wait(ctx, patience-time.Since(begun))
				}
				return nil
			})
			if err != nil {
				answered(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, errAnswered) {
		return fmt.Errorf("wait for an answer from %s: %w", vip, err)
	}
	return nil
}

var errAnswered = errors.New("answered")

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// hello asks once, on a connection of its own.
func hello(ctx context.Context, vip netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlled := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, hops) })
		return errors.Join(controlled, err)
	}}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", vip.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return err
}
