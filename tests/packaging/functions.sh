# What the init script of tiroir takes from OpenWrt's /lib/functions.sh, for tests.
# The files of UCI that it reads are those that happen to be shell as well.
# shellcheck shell=dash
config_load() {
	CONFIG_SECTIONS=
	# shellcheck disable=SC1090
	. "/etc/config/$1"
}

config() {
	CONFIG_SECTION=$2
	CONFIG_SECTIONS="$CONFIG_SECTIONS $2"
	eval "CONFIG_$2_TYPE=\$1"
}

option() {
	eval "CONFIG_${CONFIG_SECTION}_$1=\$2"
}

list() {
	eval "count=\${CONFIG_${CONFIG_SECTION}_$1_LENGTH:-0}"
	count=$((count + 1))
	eval "CONFIG_${CONFIG_SECTION}_$1_LENGTH=\$count; CONFIG_${CONFIG_SECTION}_$1_ITEM$count=\$2"
}

config_get() {
	eval "$1=\${CONFIG_$2_$3:-\${4-}}"
}

config_get_bool() {
	eval "_value=\${CONFIG_$2_$3:-\${4-}}"
	case $_value in
	1 | on | true | yes | enabled) _value=1 ;;
	0 | off | false | no | disabled) _value=0 ;;
	*) _value=$4 ;;
	esac
	eval "$1=\$_value"
}

config_foreach() {
	for _section in $CONFIG_SECTIONS; do
		config_get _type "$_section" TYPE
		[ "$_type" != "$2" ] || "$1" "$_section"
	done
}

config_list_foreach() {
	config_get _length "$1" "$2_LENGTH" 0
	_count=1
	while [ "$_count" -le "$_length" ]; do
		config_get _item "$1" "$2_ITEM$_count"
		"$3" "$_item" "$4"
		_count=$((_count + 1))
	done
}
