# What the scripts of the packages would have done: a name without a version, and PHP's modules where it looks for them.
php=$(basename usr/bin/php[0-9]*)
ln -s "$php" usr/bin/php
mkdir -p "etc/php/${php#php}/cli/conf.d"
for module in usr/share/"$php"-*/*/*.ini; do
    priority=$(sed -n 's/^; priority=//p' "$module")
    cp "$module" "etc/php/${php#php}/cli/conf.d/${priority:-20}-$(basename "$module")"
done
# Where the public image has it.
mkdir -p var/www usr/share/wordpress/wp-content/uploads
ln -s /usr/share/wordpress var/www/html
