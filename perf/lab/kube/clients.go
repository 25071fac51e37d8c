// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairlead/fairlead/perf/lab"
)

// admin may do everything.
var admin = []string{"admin", "system:masters"}

// ServiceAccount is the user that a Pod with this ServiceAccount is, and its
// groups, for Kubeconfig and RESTConfigFor.
func ServiceAccount(namespace, name string) (user string, groups []string) {
	return "system:serviceaccount:" + namespace + ":" + name,
		[]string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
}

// RESTConfig is that of an administrator, for clients in this process, wherever
// the API server runs. Its clients wait for nothing but the API server.
func (c *ControlPlane) RESTConfig() *rest.Config {
	config, err := c.RESTConfigFor(admin[0], admin[1:]...)
	if err != nil {
		// Only a broken random source or an unknown curve gets here.
		panic(err)
	}
	return config
}

// RESTConfigFor is RESTConfig for any user: RBAC decides what it may do.
func (c *ControlPlane) RESTConfigFor(user string, groups ...string) (*rest.Config, error) {
	cert, key, err := c.authority.client(user, groups...)
	if err != nil {
		return nil, err
	}
	config := &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.PEM, CertData: cert, KeyData: key},
		QPS:             -1,
	}
	if machine := c.options.Machine; machine != nil {
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			remote, err := netip.ParseAddrPort(address)
			if err != nil {
				return nil, fmt.Errorf("dial API server: %w", err)
			}
			return machine.Dial(ctx, network, netip.AddrPort{}, remote)
		}
	}
	return config, nil
}

// Program is the path of one of the control plane's programs.
func (c *ControlPlane) Program(name string) string { return filepath.Join(c.binaries, name) }

// Machine is where everything runs, nil on this machine's loopback.
func (c *ControlPlane) Machine() *lab.Machine { return c.options.Machine }

// Client is an administrator's.
func (c *ControlPlane) Client() kubernetes.Interface { return c.admin }

// Kubeconfig writes a file for a user in these groups and returns its path: for
// programs that run where the API server's address can be reached.
func (c *ControlPlane) Kubeconfig(user string, groups ...string) (path string, err error) {
	config, err := c.RESTConfigFor(user, groups...)
	if err != nil {
		return "", err
	}
	file := clientcmdapi.NewConfig()
	file.Clusters["lab"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: user}
	file.CurrentContext = "lab"
	c.mu.Lock()
	c.configs++
	path = c.file(fmt.Sprintf("kubeconfig-%d-%s", c.configs, strings.NewReplacer(":", "-", "/", "-").Replace(user)))
	c.mu.Unlock()
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		return "", fmt.Errorf("write kubeconfig of %s: %w", user, err)
	}
	return path, nil
}

// AdminKubeconfig is an administrator's.
func (c *ControlPlane) AdminKubeconfig() (path string, err error) {
	path = c.file("kubeconfig")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	written, err := c.Kubeconfig(admin[0], admin[1:]...)
	if err != nil {
		return "", err
	}
	if err := os.Rename(written, path); err != nil {
		return "", fmt.Errorf("rename kubeconfig: %w", err)
	}
	return path, nil
}

// Kubectl runs kubectl as an administrator and returns what it wrote; stdin may
// be empty. An error has what it wrote to its standard error.
func (c *ControlPlane) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	path, err := c.AdminKubeconfig()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, c.Program(Kubectl), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+path)
	cmd.Stdin = strings.NewReader(stdin)
	if c.options.Machine != nil {
		return c.options.Machine.OutputWith(cmd)
	}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// CreateNamespace makes a namespace and waits until Pods can be made in it.
func (c *ControlPlane) CreateNamespace(ctx context.Context, name string) error {
	_, err := c.Kubectl(ctx, "", "create", "namespace", name)
	if err != nil || !c.options.ControllerManager {
		return err
	}
	return c.WaitForAccount(ctx, name)
}

// WaitForAccount waits for the namespace's default ServiceAccount, without which
// no Pod can be made in it. The controller manager makes it.
func (c *ControlPlane) WaitForAccount(ctx context.Context, namespace string) error {
	return c.manager.wait(ctx, accountTimeout, "ServiceAccount of "+namespace, func(ctx context.Context) error {
		_, err := c.admin.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// ReadyPods are the Pods with these labels that are ready and are to stay.
func (c *ControlPlane) ReadyPods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	all, err := c.admin.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	return slices.DeleteFunc(all.Items, func(p corev1.Pod) bool {
		ready := func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }
		return p.DeletionTimestamp != nil || !slices.ContainsFunc(p.Status.Conditions, ready)
	}), nil
}
