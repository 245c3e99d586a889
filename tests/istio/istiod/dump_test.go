// Package firstword writes down what istiod sends to a proxy. It is run inside istio's own repository, whose fake
// discovery server it uses: see scripts/istiod.sh.
package firstword

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/util/protomarshal"
)

type input struct {
	Gateway                        bool
	Address, Namespace, Kubernetes string
	Istio                          string
	Labels                         map[string]string
	Mesh                           json.RawMessage
}

func TestDump(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("FIRSTWORD_ISTIOD"), "*.input"))
	if err != nil || len(files) == 0 {
		t.Fatal("no input", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			in := input{}
			text, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(text, &in)
			}
			if err != nil {
				t.Fatal(err)
			}
			overlay := &meshconfig.MeshConfig{}
			if err := protomarshal.Unmarshal(in.Mesh, overlay); err != nil {
				t.Fatal(err)
			}
			meshConfig := mesh.DefaultMeshConfig()
			proto.Merge(meshConfig, overlay)
			server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
				KubernetesObjectString: in.Kubernetes,
				ConfigString:           in.Istio,
				MeshConfig:             meshConfig,
			})
			kind := model.SidecarProxy
			if in.Gateway {
				kind = model.Router
			}
			proxy := server.SetupProxy(&model.Proxy{
				Type:            kind,
				ConfigNamespace: in.Namespace,
				IPAddresses:     []string{in.Address},
				Labels:          in.Labels,
				Metadata: &model.NodeMetadata{
					Namespace: in.Namespace, Labels: in.Labels, IstioVersion: "1.32.0", ClusterID: "Kubernetes",
				},
				ID:        "proxy." + in.Namespace,
				DNSDomain: in.Namespace + ".svc.cluster.local",
			})
			out := map[string][]json.RawMessage{}
			add := func(key string, message proto.Message) {
				text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
				if err != nil {
					t.Fatal(err)
				}
				out[key] = append(out[key], text)
			}
			for _, listener := range server.Listeners(proxy) {
				add("listeners", listener)
			}
			for _, cluster := range server.Clusters(proxy) {
				add("clusters", cluster)
			}
			text, err = json.Marshal(out)
			if err == nil {
				err = os.WriteFile(file[:len(file)-len("input")]+"output", text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
