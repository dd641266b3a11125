#!/bin/bash
# hosts.sh MPI PROGRAM [ARGUMENT]...: an MPI job of four ranks on four hosts, each with a name, a network and addresses of its own. They are namespaces that
# this script makes for itself, and they end with it; so it has to be root. ci/check-mpi.sh runs it.
set -eu
if [ -z "${HOSTS_FOLDER-}" ]; then
    HOSTS_FOLDER=$(mktemp -d)
    export HOSTS_FOLDER
    trap 'rm -rf "$HOSTS_FOLDER"' EXIT
    unshare --net --mount --uts "$0" "$@"
    exit
fi

mpi=$1
shift
agent=$HOSTS_FOLDER/agent
holders=
trap '[ -z "$holders" ] || kill $holders' EXIT
hostname host0
ip link set lo up
ip link add bridge0 type bridge
ip address add 10.77.0.1/24 dev bridge0
ip link set bridge0 up
printf '127.0.0.1 localhost\n10.77.0.1 host0\n' >"$HOSTS_FOLDER/hosts"
for number in 1 2 3; do
    unshare --net --uts sh -c "hostname host$number; ip link set lo up; touch '$HOSTS_FOLDER/there$number'; exec sleep 1000" </dev/null >/dev/null 2>&1 &
    pid=$!
    holders="$holders $pid"
    until [ -e "$HOSTS_FOLDER/there$number" ]; do sleep 0.01; done
    ip link add "port$number" type veth peer name eth0 netns "$pid"
    ip link set "port$number" master bridge0 up
    nsenter --target "$pid" --net ip address add "10.77.0.$((number + 1))/24" dev eth0
    nsenter --target "$pid" --net ip link set eth0 up
    echo "10.77.0.$((number + 1)) host$number" >>"$HOSTS_FOLDER/hosts"
    echo "$pid" >"$HOSTS_FOLDER/host$number"
done
mount --bind "$HOSTS_FOLDER/hosts" /etc/hosts

# In place of ssh: AGENT [-OPTION]... HOST COMMAND...
cat >"$agent" <<END
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1
shift
exec nsenter --target "\$(cat "$HOSTS_FOLDER/\$host")" --net --uts -- sh -c "\$*"
END
chmod +x "$agent"
case $mpi in
    mpich) mpirun.mpich -launcher ssh -launcher-exec "$agent" -hosts host0,host1,host2,host3 -n 4 "$@" ;;
    openmpi)
        mpirun.openmpi --allow-run-as-root --bind-to none --mca plm_rsh_agent "$agent" --host host0,host1,host2,host3 --mca btl tcp,self \
            -x TINE_ENGINE -x TINE_MPI_LIBRARY -x TINE_MPI_REPORT -n 4 "$@"
        ;;
esac
