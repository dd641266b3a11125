package tine_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tine.example/tine"
)

// haveNoThread is a host in which tine cannot start a thread; it says what becomes of tasks there.
func haveNoThread() {
	pool, err := tine.NewPool(tine.Options{Workers: 1})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer pool.Close()
	fmt.Println(doubled.Submit(background, pool, 1).Err())
	fmt.Println(doubled.Call(background, pool, 1))
}

// Where there is no thread for tine the window is not full: a task is refused, and the error says why.
func TestSubmitWithoutAThread(t *testing.T) {
	library := os.Getenv("TINE_GO_LIBRARY")
	if library == "" {
		t.Fatal("TINE_GO_LIBRARY is not set: ci/check-go.sh does that")
	}
	host := exec.Command("/proc/self/exe")
	host.Env = append(os.Environ(), "TINE_GO_TEST_HOST=no thread", "LD_PRELOAD="+strings.TrimSuffix(library, ".so")+"-no-thread.so")
	var out []byte
	var err error
	defer func() {
		if host.Process != nil {
			host.Process.Kill()
		}
	}()
	within(t, hang, func() { out, err = host.CombinedOutput() })
	if n := strings.Count(string(out), "tine: doubled: starting tine's thread: "); n != 2 || err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
